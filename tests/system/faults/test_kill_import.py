"""A worker is killed while it imports: its successor continues, and every row counts once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.uploads import begin_import
from saas.database.contacts import ImportStatus
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.database import Database
from tests.fixtures.modes import InStoreOf
from tests.fixtures.postgres import within
from tests.fixtures.worker_process import StartWorker
from workflows.imports import ImportContacts, ImportContactsInput

NEW = 24_000
AGAIN = 4_000  # rows whose address has appeared before
BAD = 400  # rows without one


async def pieces() -> AsyncIterator[bytes]:
    yield b"email,name,seat\r\n"
    for number in range(NEW):
        line = f'Person{number}@acme.example,"Person, {number}",{number % 40}A\r\n'
        if number % 6 == 0:
            line += f'person{number // 2}@acme.example,"Person, {number // 2}",\r\n'
        if number % 60 == 0:
            line += f'nobody,"{number}",\r\n'
        yield line.encode()


def count(in_store_of: InStoreOf, query: str) -> int:
    with in_store_of("acme") as everything:
        row = everything.execute(query.encode()).fetchone()
    return 0 if row is None else int(row[0])


async def until_imported(in_store_of: InStoreOf, rows: int) -> None:
    async with asyncio.timeout(60):
        while count(in_store_of, "select sum(imported) from imports") < rows:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process handles it


async def test_a_killed_workers_successor_imports_the_rest_and_counts_are_exact(
    saas: Client,
    tenants: Tenants,
    database: Database,
    in_store_of: InStoreOf,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "objects").as_uri())
    storage = {"STORAGE_URL": (tmp_path / "objects").as_uri()}
    await tenants.add("acme", "Acme", plan="enterprise")
    with within(database, "acme"):
        import_id = await begin_import(pieces(), file_name="people.csv", started_by="ann")
    first = await start_worker("--queue", "default", **storage).until_ready()
    handle = await saas.start_workflow(
        ImportContacts.run,
        ImportContactsInput(tenant_id="acme", import_id=import_id, batch_size=500),
        id=f"acme/contacts.import/{import_id}",
        task_queue=Queue.DEFAULT,
    )
    await until_imported(in_store_of, 2_000)
    first.send(signal.SIGKILL)
    assert await first.exit_code() == -signal.SIGKILL
    reached = count(in_store_of, "select imported from imports")
    # The contacts and the import's progress were committed together.
    assert count(in_store_of, "select count(*) from contacts") == reached < NEW

    second = await start_worker("--queue", "default", **storage).until_ready()
    done = await handle.result()
    assert (done.status, done.rows) == (ImportStatus.COMPLETED, NEW + AGAIN + BAD)
    assert (done.imported, done.updated, done.rejected) == (NEW, AGAIN, BAD)
    right = """
        select count(*) from contacts
         where tenant_id = 'acme'
           and name = 'Person, ' || substring(email from 7 for position('@' in email) - 7)
           and attributes ? 'seat'
    """
    assert count(in_store_of, right) == count(in_store_of, "select count(*) from contacts")
    assert count(in_store_of, right) == NEW
    file = tmp_path / "objects" / str(done.error_file)
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == len(set(lines)) == BAD + 1
    second.send(signal.SIGTERM)
    assert await second.exit_code() == 0
