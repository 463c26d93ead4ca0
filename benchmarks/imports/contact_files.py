"""Files of contacts to be imported, and the import of one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from temporalio.client import Client

from activities.imports import BATCH_ROWS, ImportProgress
from activities.uploads import begin_import
from saas.queues import Queue
from temporal_tenancy import Database, TenantScope, enter, use_database
from workflows.imports import ImportContacts, ImportContactsInput

TENANT: Final = "acme"
PIECE_BYTES: Final = 256 * 1024
COLUMNS: Final = ("email", "name", "phone", "company", "country")


def write_contacts(path: Path, rows: int) -> Path:
    """Writes a file of so many contacts, each with an address of its own; returns its path."""
    with path.open("w", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(
            f"person.{number}@company-{number % 997}.example,Person Number {number},"
            f"+1 555 {number:07},Company {number % 997} Ltd,US\n"
            for number in range(rows)
        )
    return path


async def store(database: Database, file: Path) -> UUID:
    """Stores a file as an import of the tenant's, whose job nobody starts; returns its id."""
    with use_database(database), enter(TenantScope(TENANT)):
        return await begin_import(_pieces(file), file_name=file.name, started_by="benchmark")


async def import_contacts(
    client: Client, import_id: UUID, *, batch_size: int = BATCH_ROWS
) -> ImportProgress:
    """Runs the job of a stored import, and returns what it came to."""
    return await client.execute_workflow(
        ImportContacts.run,
        ImportContactsInput(tenant_id=TENANT, import_id=import_id, batch_size=batch_size),
        id=f"{TENANT}/contacts.import/{import_id}",
        task_queue=Queue.DEFAULT,
    )


@contextmanager
def storage_in(folder: Path) -> Iterator[str]:
    """Makes `folder` the object storage of this process inside the block; yields its URL."""
    before = os.environ.get("STORAGE_URL")
    os.environ["STORAGE_URL"] = folder.as_uri()
    try:
        yield folder.as_uri()
    finally:
        del os.environ["STORAGE_URL"]
        if before is not None:
            os.environ["STORAGE_URL"] = before


def read_pieces(file: Path) -> Iterator[bytes]:
    """A file's bytes, piece by piece."""
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    for piece in read_pieces(file):
        yield piece
