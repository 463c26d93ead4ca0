"""Taking a file of contacts: it is stored, and its import is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID, uuid4

from activities.refusals import Refused
from database.contacts import Import
from services.csv_files import Sniffer
from services.object_storage import current_storage, object_path
from temporal_tenancy.database import tenant_session
from temporal_tenancy.outbox import enqueue

JOB: Final = "contacts.import"
AREA: Final = "imports"  # of the object storage
FILE_MAX_BYTES: Final = 2 * 1024**3
FILE_NAME_MAX_CHARACTERS: Final = 100


class FileTooLarge(Refused):
    """The file is larger than imports may be."""


async def begin_import(
    pieces: AsyncIterator[bytes],
    *,
    file_name: str,
    started_by: str,
    dry_run: bool = False,
    batch_size: int | None = None,
) -> UUID:
    """Stores a file of the current tenant's, and asks for its contacts to be imported.

    The import and the request for its job are written in one transaction, once the whole file has
    been stored. Nothing of it is looked at here but its encoding: what is wrong with a file is what
    the import says.

    Args:
        pieces: the file's bytes; no more than one piece is held.
        file_name: as who sent it calls it. It is shown, and cut where it is long.
        started_by: who sent it.
        dry_run: whether to count what it would do, and write no contact.
        batch_size: rows a transaction; the job's own if not given.

    Returns:
        The import's id, which is the key of its job.

    Raises:
        FileTooLarge: it is larger than 2 GiB; nothing is kept.
        StorageFailed: the object storage does not take it.
        ScopeMissing: there is no tenant.
    """
    storage = current_storage()
    path = object_path(AREA, f"{uuid4()}.csv")
    sniffer = Sniffer()
    size = await storage.put(path, _watched(pieces, sniffer))
    encoding = sniffer.encoding()
    try:
        async with tenant_session() as session:
            started = Import(
                file_name=_shown(file_name),
                path=path,
                size=size,
                encoding=encoding.name,
                position=encoding.mark,
                dry_run=dry_run,
                started_by=started_by,
            )
            session.add(started)
            await session.flush()
            job_input: dict[str, object] = {"import_id": started.id}
            if batch_size is not None:
                job_input["batch_size"] = batch_size
            await enqueue(JOB, job_input, key=str(started.id))
            return started.id
    except Exception:
        await storage.delete(path)
        raise


async def _watched(pieces: AsyncIterator[bytes], sniffer: Sniffer) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > FILE_MAX_BYTES:
            raise FileTooLarge(
                f"the file is larger than {FILE_MAX_BYTES // 1024**3} GiB. Import it in parts, "
                "each with the header."
            )
        sniffer.feed(piece)
        yield piece
    sniffer.feed(b"", final=True)


def _shown(file_name: str) -> str:
    """The name on one line, without what could not be stored or shown."""
    plain = "".join(character if character.isprintable() else "�" for character in file_name)
    return plain[-FILE_NAME_MAX_CHARACTERS:] or "contacts.csv"
