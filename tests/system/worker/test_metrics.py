"""The metrics of the reference SaaS's processes, and what its tenants have used."""

from __future__ import annotations

import csv
import io
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.starter import Starter
from tests.fixtures.web import LINK_SECRET
from tests.fixtures.worker_process import StartWorker, WorkerProcess

TOKEN = "a-token-of-the-test"
PERIOD = '{"period": "2013-04"}'


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


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_every_process_is_scraped_and_what_tenants_used_is_shown(
    tenants: Tenants,
    database_urls: DatabaseUrls,
    starter: Starter,
    start_worker: StartWorker,
    tmp_path: Any,
) -> None:
    await tenants.add("dl", "Delta", plan="enterprise")
    await tenants.add("ua", "United", plan="free")
    worker = start_worker("--queue", "bulk", METRICS_TOKEN=TOKEN)
    relay = start_worker("--relay", METRICS_TOKEN=TOKEN, RELAY_DATABASE_URL=database_urls.relay)
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
    for process in (worker, relay, web):
        await process.until_ready()
        async with httpx.AsyncClient(base_url=process.health) as http:
            assert (await http.get("/metrics")).status_code == 401
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD)
    assert asked.code == 0, asked.err
    for tenant in ("dl", "ua"):
        ran = await starter("run", "billing.cycle", "--tenant", tenant, "--input", PERIOD, "--wait")
        assert ran.code == 0, ran.err

    of_worker, of_relay, of_web = map(scraped, (worker, relay, web))
    succeeded = {"job": "billing.cycle", "queue": "bulk", "outcome": "succeeded"}
    assert (succeeded, 2.0) in of_worker["tenancy_runs_total"]
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
    assert len(versions) == 1  # of the same code, though each has other modules
    assert of_web["tenancy_database_connections"]
    assert not {name for name in of_web if name.startswith("tenancy_tick")}

    top = await starter("top", "--json")
    assert top.code == 0, top.err
    queues = {(row["queue"], row["kind"]): row["workers"] for row in top.document["queues"]}
    assert queues["bulk", "workflow"] == 1
    assert queues["critical", "workflow"] == 0
    [version] = {row["version"] for row in top.document["workers"] if row["queue"] == "bulk"}
    assert version
    as_text = await starter("top")
    assert "No fan-out is under way." in as_text.out

    worker.send(signal.SIGTERM)
    assert await worker.exit_code() == 0
    shown = await starter("usage", "--json")
    assert shown.code == 0, shown.err
    used = {row["tenant"]: row for row in shown.document["usage"]}
    assert {"dl", "ua"} <= set(used)
    assert (used["dl"]["workflows"], used["ua"]["workflows"]) == (1, 1)
    assert used["dl"]["worker_seconds"] > 0
    assert used["dl"]["database_seconds"] > 0
    table = await starter("usage", "--tenant", "dl", "--by", "job")
    assert "billing.cycle" in table.out
    file = await starter("usage", "--tenant", "dl", "--by", "job", "--csv")
    rows = list(csv.DictReader(io.StringIO(file.out)))
    assert [row["job"] for row in rows if row["workflows"] == "1"] == ["billing.cycle"]
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


async def test_a_web_process_whose_health_port_is_taken_says_so(
    start_worker: StartWorker, taken_port: int, tmp_path: Any
) -> None:
    web = start_worker(
        *("--port", "0"),
        module="processes.web",
        WEB_HEALTH_PORT=str(taken_port),
        WEB_URL="http://door.example",
        LINK_SECRET=LINK_SECRET,
        STORAGE_URL=f"file://{tmp_path / 'storage'}",
        SECRETS_URL=f"file://{tmp_path}",
    )
    assert await web.exit_code() == 3
    assert f"PortInUse: port {taken_port} on 127.0.0.1 is in use" in web.text
    assert "WEB_HEALTH_PORT" in web.text
