"""A worker is killed while it writes an export: its successor writes the whole file."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from saas.database.exports import ExportDataset, ExportFormat
from saas.queues import Queue
from saas.requests.exports import begin_export
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.worker_process import StartWorker
from workflows.exports import GenerateExport, GenerateExportInput

EVENTS = 150_000
_MAKE_UP = """
    insert into usage_events (
        tenant_id, time_hour, carrier, flight, origin, destination, distance, cancelled
    )
    select tenant, '2013-01-01T00:00Z', 'AC', number, 'JFK', 'LAX', 100, false
      from unnest(array['acme', 'globex']) as tenant, generate_series(1, %s) as number
"""


async def a_part_is_written(folder: Path) -> None:
    async with asyncio.timeout(60):
        while not any(path.is_file() for path in folder.rglob("*")):  # noqa: ASYNC110, ASYNC240  # by another process
            await asyncio.sleep(0.005)


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines()


async def test_a_killed_workers_successor_writes_the_file_whole(
    saas: Client,
    tenants: Tenants,
    database: Database,
    database_urls: DatabaseUrls,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "objects"
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="enterprise")
    with connect(database_urls.superuser) as everything:
        everything.execute(_MAKE_UP, [EVENTS])
    with within(database, "acme"):
        async with tenant_session() as session:
            export_id = await begin_export(session, ExportDataset.USAGE_EVENTS, ExportFormat.CSV)
    first = await start_worker("--queue", "bulk", STORAGE_URL=folder.as_uri()).until_ready()
    handle = await saas.start_workflow(
        GenerateExport.run,
        GenerateExportInput(tenant_id="acme", export_id=export_id),
        id=f"acme/exports.generate/{export_id}",
        task_queue=Queue.BULK,
    )
    await a_part_is_written(folder)
    first.send(signal.SIGKILL)
    assert await first.exit_code() == -signal.SIGKILL
    file = folder / "acme" / "exports" / f"{export_id}.csv"
    assert not file.exists()

    second = await start_worker("--queue", "bulk", STORAGE_URL=folder.as_uri()).until_ready()
    report = await handle.result()
    lines = lines_of(file)
    assert report.rows == EVENTS == len(lines) - 1
    assert len({line.split(",")[2] for line in lines[1:]}) == EVENTS
    assert report.bytes == file.stat().st_size
    second.send(signal.SIGTERM)
    assert await second.exit_code() == 0
