"""Does an import's memory grow with its file?

A process of `worker.py` imports one file, and its resident memory is looked at every 20 ms; the
largest is its peak. Ours is the peak with 100,000 rows (FULL=1: 500,000), the peer that of another
such process with 10,000. The file is in the object storage when the worker starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil
from temporalio.client import Client

from benchmarks.imports.contact_files import (
    TENANT,
    import_contacts,
    storage_in,
    store,
    write_contacts,
)
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, tell
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from temporal_tenancy import Database
from temporal_tenancy.control_plane import Tenants

NAME: Final = "import_memory"
GOAL: Final = Goal("<=", 1.2)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
FEW: Final = 10_000  # rows
LOOK: Final = 0.02  # seconds
MEGABYTE: Final = 1_000_000


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; half a minute, a minute with FULL=1."""
    many = 500_000 if is_full() else 100_000
    urls = servers.new_database("import_memory")
    database = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    await Tenants(database).add(TENANT, "Acme", plan="enterprise")
    client = await servers.our_client(database)
    comparison = Comparison()
    try:
        peaks = {rows: await _peak(servers, urls, database, client, rows) for rows in (FEW, many)}
    finally:
        await database.dispose()
    comparison.add({Arm.OURS: peaks[many], Arm.PEER: peaks[FEW]})
    peer = f"itself with {FEW:,} rows"
    return [Answer(NAME, peer, GOAL, "MB, resident, peak", comparison, {"rows": many})]


async def _peak(
    servers: Servers, urls: DatabaseUrls, database: Database, client: Client, rows: int
) -> float:
    """The peak of a worker that imports so many rows, in megabytes."""
    folder = servers.directory / f"import-{rows}"
    folder.mkdir()
    with storage_in(folder / "objects") as storage:
        import_id = await store(database, write_contacts(folder / "contacts.csv", rows))
        worker = _worker(servers, urls, folder, storage)
        try:
            importing = asyncio.create_task(import_contacts(client, import_id))
            looked_at = psutil.Process(worker.pid)
            peak = 0
            while not importing.done():
                peak = max(peak, looked_at.memory_info().rss)
                await asyncio.wait({importing}, timeout=LOOK)
        finally:
            worker.stop()
    assert (await importing).rows == rows
    tell(f"{NAME}: {rows:,} rows: {peak / MEGABYTE:.1f} MB")
    return peak / MEGABYTE


def _worker(servers: Servers, urls: DatabaseUrls, folder: Path, storage: str) -> OwnedProcess:
    environ = {
        **os.environ,
        "TENANT_DATABASE_URL": urls.tenant,
        "PLATFORM_DATABASE_URL": urls.platform,
        "TEMPORAL_ADDRESS": servers.temporal_address,
        "STORAGE_URL": storage,
        "WORKER_HEALTH_PORT": "0",
    }
    command = [sys.executable, "-m", "worker", "--queue", "default"]
    return OwnedProcess(command, log=folder / "worker.log", environ=environ)
