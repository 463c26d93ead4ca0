"""Every query of every rule and panel finds series in what real processes are scraped for."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from dev.monitoring.dashboards import DASHBOARDS, TENANT
from dev.monitoring.files import FOLDER
from dev.monitoring.rules import RULES
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.starter import Starter
from tests.fixtures.web import LINK_SECRET
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from tests.system.monitoring.test_rules import prometheus_program

TOKEN: Final = "a-token-of-the-test"
PATIENCE: Final = 60.0  # seconds until each query finds series


def every_query() -> dict[str, str]:
    """Returns the rules' queries and the panels', by where they are."""
    queries = {f"rule {rule.name}": rule.query for rule in RULES}
    for board in DASHBOARDS:
        for panel in json.loads((FOLDER / f"dashboards/{board.uid}.json").read_text())["panels"]:
            for target in panel["targets"]:
                where = f"{board.uid}: {panel['title']} {target['refId']}"
                queries[where] = target["expr"].replace(TENANT, ".+")
    return queries


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def prometheus(folder: Path, targets: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Runs Prometheus with the project's configuration, which scrapes `targets` each second."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    [scrape] = [each for each in config["scrape_configs"] if each["job_name"] == "tenancy"]
    config["scrape_configs"] = [scrape]
    del config["alerting"], scrape["dns_sd_configs"]  # of docker-compose.yml
    scrape["static_configs"] = [{"targets": targets}]
    scrape["authorization"] = {"credentials": TOKEN}
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        prometheus_program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    process = OwnedProcess(command, log=folder / "prometheus.log", environ={})
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as http:
            yield http
    finally:
        process.kill()


async def answer(http: httpx.AsyncClient, path: str, **parameters: str) -> Any:  # JSON
    try:
        return (await http.get(path, params=parameters)).json()["data"]
    except httpx.TransportError:  # it is starting
        return None


async def test_every_query_finds_series_in_a_real_run(
    tenants: Tenants,
    database_urls: DatabaseUrls,
    starter: Starter,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    prometheus_program("prometheus")
    await tenants.add("dl", "Delta", plan="enterprise")
    await tenants.add("ua", "United", plan="enterprise")
    worker = start_worker(METRICS_TOKEN=TOKEN)
    relay = start_worker(
        "--relay",
        METRICS_TOKEN=TOKEN,
        METRICS_COLLECT_SECONDS="0.5",
        RELAY_DATABASE_URL=database_urls.relay,
    )
    web = start_worker(
        *("--port", "0"),
        module="processes.web",
        METRICS_TOKEN=TOKEN,
        WEB_HEALTH_PORT="0",
        WEB_URL="http://door.example",
        LINK_SECRET=LINK_SECRET,
        STORAGE_URL=f"file://{tmp_path / 'storage'}",
        SECRETS_URL=f"file://{tmp_path}",
    )
    processes: list[WorkerProcess] = [await each.until_ready() for each in (worker, relay, web)]
    targets = [each.health.removeprefix("http://") for each in processes]
    async with prometheus(tmp_path, targets) as http:
        for command in (
            ("schedules", "apply"),
            ("schedules", "trigger", "billing.cycle"),
            ("enqueue", "billing.cycle", "--tenant", "dl", "--input", '{"period": "2013-04"}'),
            ("run", "payments.webhook", "--tenant", "ua", "--input", '{"event_id": "e1"}'),
        ):
            done = await starter(*command)
            assert done.code == 0, done.err
        left, until = every_query(), time.monotonic() + PATIENCE
        while left and time.monotonic() < until:
            for where, query in list(left.items()):
                found = await answer(http, "/api/v1/query", query=query)
                if found and found["result"]:
                    del left[where]
            await asyncio.sleep(0.5)
        assert left == {}
        rules = (await answer(http, "/api/v1/rules"))["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == {
            rule.name: "ok" for rule in RULES
        }
        up = (await answer(http, "/api/v1/query", query="up"))["result"]
        assert [value["value"][1] for value in up] == ["1"] * len(targets)
