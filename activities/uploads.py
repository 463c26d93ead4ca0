"""Uploads: stores a file of contacts, and requests its import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.contacts import Import
from saas.refusals import Refused
from saas.requests.imports import JOB as JOB  # those who start imports use it too
from saas.requests.imports import UNSURE as UNSURE
from saas.services import encodings
from saas.services.encodings import Because, Reading, Sniffer
from saas.services.object_storage import current_storage, object_path
from temporal_tenancy import tenant_session
from temporal_tenancy.core import size_of
from temporal_tenancy.outbox import enqueue

AREA: Final = "imports"  # in the object storage
FILE_MAX_BYTES: Final = 2 * 1024**3
FILE_NAME_MAX_CHARACTERS: Final = 100


class FileTooLarge(Refused):
    """The file is too large to import."""


class EncodingUnknown(Refused):
    """The encoding that the sender named does not exist."""


Naming = Callable[[], str | None]
"""Returns the encoding that the sender named; called after the whole file has arrived."""


@dataclass
class StoredFile:
    """A file in the object storage, before its import."""

    path: str
    size: int  # bytes
    reading: Reading
    imported: bool = False  # whether its import has been requested


def named_encoding(name: str) -> str:
    """Returns this project's name of an encoding; raises `EncodingUnknown`."""
    try:
        return encodings.named_encoding(name)
    except encodings.EncodingUnknown as error:
        raise EncodingUnknown(str(error)) from None


async def begin_import(
    pieces: AsyncIterator[bytes],
    *,
    file_name: str,
    started_by: str,
    encoding: str | Naming | None = None,
    dry_run: bool = False,
    batch_size: int | None = None,
    max_bytes: int = FILE_MAX_BYTES,
) -> UUID:
    """Stores a file of the current tenant, and requests the import of its contacts.

    The import and the request for its job are written in one transaction, after the whole file has
    been stored. Only the encoding is examined here; the import reports any other problem of the
    file.

    Args:
        pieces: the chunks of the file, of which only one is in memory at a time.
        file_name: the sender's name for it, for display; a long name is cut.
        started_by: the sender.
        encoding: the encoding that the sender named; detected if not given.
        dry_run: whether to only count what the import would do.
        batch_size: rows per transaction; default: the job's.
        max_bytes: the maximum size of the file.

    Returns:
        The import's id, which is the key of its job.

    Raises:
        FileTooLarge: it is larger than `max_bytes`; nothing is kept.
        EncodingUnknown: the encoding does not exist; nothing is kept.
        StorageFailed: the object storage does not accept the file.
        ScopeMissing: the scope is not a tenant's.
    """
    async with (
        stored_file(pieces, encoding=encoding, max_bytes=max_bytes) as file,
        tenant_session() as session,
    ):
        return await request_import(
            session,
            file,
            file_name=file_name,
            started_by=started_by,
            dry_run=dry_run,
            batch_size=batch_size,
        )


@asynccontextmanager
async def stored_file(
    pieces: AsyncIterator[bytes],
    *,
    encoding: str | Naming | None = None,
    max_bytes: int = FILE_MAX_BYTES,
) -> AsyncIterator[StoredFile]:
    """Stores a file of the current tenant, and yields it for `request_import`.

    Without that, and after an error, the file is deleted at the end of the block. Takes and raises
    as `begin_import` does.
    """
    named = named_encoding(encoding) if isinstance(encoding, str) else None
    storage = current_storage()
    path = object_path(AREA, f"{uuid4()}.csv")
    sniffer = Sniffer()
    size = await storage.put(path, _watched(pieces, sniffer, max_bytes))
    try:
        if callable(encoding) and (name := encoding()):
            named = named_encoding(name)
        file = StoredFile(path, size, await asyncio.to_thread(sniffer.reading, named))
        yield file
    except Exception:
        await storage.delete(path)
        raise
    if not file.imported:
        await storage.delete(path)


async def request_import(
    session: AsyncSession,
    file: StoredFile,
    *,
    file_name: str,
    started_by: str,
    dry_run: bool = False,
    batch_size: int | None = None,
) -> UUID:
    """Requests the import of a stored file in the transaction of `session`, the `tenant_session()`.

    Takes the other arguments of `begin_import`, and returns the import's id.
    """
    reading = file.reading
    started = Import(
        file_name=_shown(file_name),
        path=file.path,
        size=file.size,
        encoding=UNSURE if reading.because is Because.UNSURE else reading.encoding,
        reading=_kept(reading),
        position=reading.mark,
        dry_run=dry_run,
        started_by=started_by,
    )
    session.add(started)
    await session.flush()
    job_input: dict[str, object] = {"import_id": started.id}
    if batch_size is not None:
        job_input["batch_size"] = batch_size
    await enqueue(JOB, job_input, key=str(started.id))
    file.imported = True
    return started.id


def _kept(reading: Reading) -> dict[str, Any]:
    candidates = [each._asdict() for each in reading.candidates]
    return {"because": reading.because, **({"candidates": candidates} if candidates else {})}


async def _watched(
    pieces: AsyncIterator[bytes], sniffer: Sniffer, max_bytes: int
) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise FileTooLarge(
                f"the file is larger than {size_of(max_bytes)}. Import it in parts, "
                "each with the header."
            )
        await _fed(sniffer, piece)
        yield piece
    await asyncio.to_thread(sniffer.feed, b"", final=True)


async def _fed(sniffer: Sniffer, piece: bytes) -> None:
    """Feeds a chunk; one that is examined, or that is large, in a thread: others wait meanwhile."""
    if sniffer.holds(piece):
        sniffer.feed(piece)
    else:
        await asyncio.to_thread(sniffer.feed, piece)


def _shown(file_name: str) -> str:
    """Returns the name on one line, without characters that cannot be stored or shown."""
    printable = "".join(character if character.isprintable() else "�" for character in file_name)
    return printable[-FILE_NAME_MAX_CHARACTERS:] or "contacts.csv"
