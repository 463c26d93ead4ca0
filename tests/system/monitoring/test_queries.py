"""Real processes: what they are scraped for, and what rules, panels and commands find in it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from dev.monitoring.dashboards import DASHBOARDS, TENANT
from dev.monitoring.files import FOLDER
from dev.monitoring.rules import RULES
from processes.lifecycle.build import code_digest
from temporal_tenancy.control_plane.running_processes import RunningProcess, announced
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.metering._meter import FLUSHED_EVERY
from temporal_tenancy.postgres.database import Database
from tests.fixtures.starter import Starter
from tests.fixtures.web import LINK_SECRET
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from tests.system.monitoring.test_rules import prometheus_program

pytestmark = pytest.mark.schedules

TOKEN: Final = "a-token-of-the-test"
PATIENCE: Final = 180.0  # seconds until each query finds series
PERIOD: Final = '{"period": "2013-04"}'
SUCCEEDED: Final = {"job": "billing.cycle", "queue": "bulk", "outcome": "succeeded"}


class Running(NamedTuple):
    """The processes that are scraped."""

    worker: WorkerProcess
    relay: WorkerProcess
    web: WorkerProcess


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
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "1s"}
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


def scraped(process: WorkerProcess) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Returns the samples of a process, by name."""
    answer = httpx.get(
        f"{process.health}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


async def answer(http: httpx.AsyncClient, path: str, **parameters: str) -> Any:  # JSON
    try:
        return (await http.get(path, params=parameters)).json()["data"]
    except httpx.TransportError:  # it is starting
        return None


@pytest.fixture
async def running(
    tenants: Tenants,
    database_urls: DatabaseUrls,
    start_worker: StartWorker,
    tmp_path: Path,
) -> Running:
    """A worker, a relay and the HTTP door, and two tenants."""
    await tenants.add("dl", "Delta", plan="enterprise")
    await tenants.add("ua", "United", plan="enterprise")
    return await start_all(start_worker, database_urls, tmp_path)


async def start_all(
    start: StartWorker, database_urls: DatabaseUrls, tmp_path: Path, **variables: str
) -> Running:
    """Starts a worker, a relay and the HTTP door, with these variables each."""
    shared = {"METRICS_TOKEN": TOKEN, **variables}
    started = (
        start("--queue", "bulk,critical", **shared),
        start(
            "--relay",
            **shared,
            METRICS_COLLECT_SECONDS="0.2",
            RELAY_DATABASE_URL=database_urls.relay,
        ),
        start(
            *("--port", "0"),
            module="processes.web",
            **shared,
            WEB_HEALTH_PORT="0",
            WEB_URL="http://door.example",
            LINK_SECRET=LINK_SECRET,
            STORAGE_URL=f"file://{tmp_path / 'storage'}",
            SECRETS_URL=f"file://{tmp_path}",
        ),
    )
    return Running(*[await process.until_ready() for process in started])


async def test_real_processes_are_scraped_queried_and_metered(
    running: Running, database: Database, starter: Starter, tmp_path: Path
) -> None:
    prometheus_program("prometheus")
    targets = [each.health.removeprefix("http://") for each in running]
    for process in running:
        async with httpx.AsyncClient(base_url=process.health) as client:
            assert (await client.get("/metrics")).status_code == 401
    async with prometheus(tmp_path, targets) as http:
        await run_jobs(starter)
        await until_runs(running.worker, 2)  # a worker counts a run behind its last command
        check_scrapes(running)
        await check_top(starter)
        for command in (
            ("schedules", "apply"),
            ("schedules", "trigger", "billing.cycle"),
            ("run", "payments.webhook", "--tenant", "ua", "--input", '{"event_id": "e1"}'),
        ):
            done = await starter(*command)
            assert done.code == 0, done.err
        await check_queries(http, len(targets))
    await check_doctor(running, database, starter)
    await until_runs(running.worker, 4)
    running.worker.send(signal.SIGTERM)
    assert await running.worker.exit_code() == 0
    await check_usage(starter)


async def run_jobs(starter: Starter) -> None:
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD)
    assert asked.code == 0, asked.err
    for tenant in ("dl", "ua"):
        ran = await starter("run", "billing.cycle", "--tenant", tenant, "--input", PERIOD, "--wait")
        assert ran.code == 0, ran.err


def check_scrapes(running: Running) -> None:
    of_worker, of_relay, of_web = map(scraped, running)
    assert (SUCCEEDED, 2.0) in of_worker["tenancy_runs_total"]
    by_tenant = {labels["tenant"] for labels, _ in of_worker["tenancy_tenant_worker_seconds_total"]}
    assert by_tenant == {"dl", "ua"}
    assert of_worker["temporal_worker_task_slots_available"]
    assert of_relay["tenancy_relay_lag_seconds_count"][0][1] == 1
    assert of_relay["tenancy_collected_timestamp_seconds"]
    versions = {
        labels["version"]
        for found in (of_worker, of_relay, of_web)
        for labels, _ in found["tenancy_process_info"]
    }
    assert versions == {code_digest()}  # of the same code, though each has other modules
    assert of_web["tenancy_database_connections"]
    assert not {name for name in of_web if name.startswith("tenancy_tick")}


async def check_top(starter: Starter) -> None:
    top = await starter("top", "--json")
    assert top.code == 0, top.err
    queues = {(row["queue"], row["kind"]): row["workers"] for row in top.document["queues"]}
    assert queues["bulk", "workflow"] == 1
    assert queues["default", "workflow"] == 0
    assert {row["version"] for row in top.document["workers"]} == {code_digest()}
    as_text = await starter("top")
    assert "No fan-out is under way." in as_text.out
    assert re.search(
        r"^Since \d{4}-\d\d-\d\d \d\d:00Z; figures may be a minute old:$", as_text.out, re.M
    ), as_text.out
    assert top.document["tenants_since"].endswith(":00:00Z")


async def check_queries(http: httpx.AsyncClient, targets: int) -> None:
    left, until = every_query(), time.monotonic() + PATIENCE
    while left and time.monotonic() < until:
        for where, query in list(left.items()):
            found = await answer(http, "/api/v1/query", query=query)
            if found and found["result"]:
                del left[where]
        await asyncio.sleep(0.1)
    assert left == {}
    rules = (await answer(http, "/api/v1/rules"))["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == {rule.name: "ok" for rule in RULES}
    up = (await answer(http, "/api/v1/query", query="up"))["result"]
    assert [value["value"][1] for value in up] == ["1"] * targets


async def check_doctor(running: Running, database: Database, starter: Starter) -> None:
    """Starts a relay with another configuration beside ours, as far as the doctor can see."""
    before = await doctors_view(starter)
    assert before["verdict"] == "ok", before
    assert "1 relay, 1 web, 1 worker" in before["message"]
    assert before["message"].endswith(f"Version: {code_digest()}.")
    other = RunningProcess(
        kind="relay",
        identity="r2",
        serves="outbox",
        version=code_digest(),
        configuration="another",
    )
    async with announced(database, other):
        while (found := await doctors_view(starter))["verdict"] == "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert found["verdict"] == "warning"
    pid = running.relay.process.pid
    assert f"relay {pid}@" in found["message"]
    assert "has another configuration than r2" in found["message"]


async def doctors_view(starter: Starter) -> Any:  # JSON
    said = await starter("doctor", "--json", "--patience", "1")
    [found] = [check for check in said.document["checks"] if check["name"] == "running processes"]
    return found


async def until_runs(worker: WorkerProcess, count: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while (SUCCEEDED, count) not in scraped(worker)["tenancy_runs_total"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def check_usage(starter: Starter) -> None:
    shown = await starter("usage", "--json")
    assert shown.code == 0, shown.err
    used = {row["tenant"]: row for row in shown.document["usage"]}
    assert {"dl", "ua"} <= set(used)
    assert (used["dl"]["workflows"], used["ua"]["workflows"]) == (2, 3)
    assert used["dl"]["worker_seconds"] > 0
    assert used["dl"]["database_seconds"] > 0
    table = await starter("usage", "--tenant", "dl", "--by", "job")
    assert "billing.cycle" in table.out
    assert re.match(
        r"From [^;]+ to [^;]+; figures may be a minute old:$", table.out.splitlines()[0]
    ), table.out
    assert timedelta(minutes=1) == FLUSHED_EVERY  # as these words say
    file = await starter("usage", "--tenant", "dl", "--by", "job", "--csv")
    rows = list(csv.DictReader(io.StringIO(file.out)))
    assert [row["job"] for row in rows if row["workflows"] == "2"] == ["billing.cycle"]
    for wrong in (
        ("--since", "yesterday"),
        ("--since", "2026-01-01T00:00:00"),
        ("--since", "2026-01-02", "--until", "2026-01-01"),
        ("--csv", "--json"),
        ("--tenant", "nobody"),
        ("--by", "plan"),
    ):
        refused = await starter("usage", *wrong)
        assert refused.code == 2, (wrong, refused)
