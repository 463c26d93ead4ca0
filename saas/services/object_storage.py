"""Tenants' files, in a folder or an object store, each below its tenant's own prefix."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore as Store
from obstore.store import from_url
from temporalio.exceptions import ApplicationError

from saas.settings import load_settings
from temporal_tenancy.core.errors import ConfigurationError, TenantMismatch
from temporal_tenancy.core.scope import current_tenant

PART_BYTES: Final = 5 * 1024 * 1024  # held until it is sent; S3 takes no smaller part
PARTS_AT_ONCE: Final = 2
CHUNK_BYTES: Final = 256 * 1024  # of what is read
PART_MAX_CHARACTERS: Final = 200
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
RETRY_TIMEOUT: Final = timedelta(seconds=30)  # the job's own retries take longer

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")  # and so no ".."


class ObjectNotFound(ApplicationError):
    """The tenant has no such object."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class StorageFailed(Exception):
    """The object storage does not answer, or refuses."""

    def __init__(self, reason: str) -> None:
        self.message = f"the object storage failed: {reason}. Check what STORAGE_URL names."
        super().__init__(self.message)


def object_path(area: str, name: str) -> str:
    """Returns the path of an object of the current tenant's: `{tenant}/{area}/{name}`.

    `area` is what it is for, as `imports`. Both are letters, digits and `_-`, with single dots
    between them, 200 at most. Raises `ScopeMissing` where there is no tenant, and `ValueError`.
    """
    for part in (area, name):
        if not _PART.fullmatch(part) or len(part) > PART_MAX_CHARACTERS:
            raise ValueError(
                f"{part[:80]!r} cannot be part of an object's path: letters, digits, _ and -, "
                f"with single dots between them, {PART_MAX_CHARACTERS} at most."
            )
    return f"{current_tenant()}/{area}/{name}"


class ObjectStorage:
    """The current tenant's objects: each call refuses a path that is not its own."""

    def __init__(self, store: Store) -> None:
        """`store` holds the objects of all tenants."""
        self._store = store

    async def put(self, path: str, data: bytes | AsyncIterator[bytes]) -> int:
        """Writes an object, whole or not at all, over what was there; returns its size in bytes.

        What comes piece by piece is not held in memory.

        Raises:
            TenantMismatch: the path is not one that `object_path` builds here.
            StorageFailed: the storage does not take it.
        """
        _own(path)
        size = 0
        with _told(path):
            # Thrown away unclosed where `data` fails: nothing is then seen at the path.
            writer = obstore.open_writer_async(
                self._store, path, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        async for piece in _pieces(data):
            size += len(piece)
            with _told(path):
                await writer.write(piece)
        with _told(path):
            await writer.close()
        return size

    async def open(self, path: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yields an object piece by piece, from byte `start` on.

        Raises:
            TenantMismatch: as for `put`.
            ObjectNotFound: there is none.
            StorageFailed: the storage does not give it.
        """
        size = await self.size(path)
        if start >= size:
            return  # a range that is empty is refused
        with _told(path):
            found = await obstore.get_async(self._store, path, options={"range": (start, size)})
        pieces = found.stream(min_chunk_size=CHUNK_BYTES)
        while True:
            with _told(path):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    async def size(self, path: str) -> int:
        """Returns an object's size in bytes; raises as `open`."""
        _own(path)
        with _told(path):
            return int((await obstore.head_async(self._store, path))["size"])

    async def delete(self, path: str) -> None:
        """Deletes an object, if there is one; raises `TenantMismatch`, `StorageFailed`."""
        _own(path)
        try:
            with _told(path):
                await obstore.delete_async(self._store, path)
        except ObjectNotFound:
            return


def current_storage() -> ObjectStorage:
    """The storage that the environment names; raises `ConfigurationError` where it names none."""
    url = load_settings().storage_url
    if url is None:
        raise ConfigurationError(
            "this process has no object storage. Set STORAGE_URL to file:///folder or "
            "s3://bucket/prefix."
        )
    return _storage(url)


@cache
def _storage(url: str) -> ObjectStorage:
    try:
        if url.startswith("file:"):
            return ObjectStorage(from_url(url, mkdir=True))
        return ObjectStorage(
            from_url(
                url,
                client_options={"connect_timeout": CONNECT_TIMEOUT},
                retry_config={"max_retries": 3, "retry_timeout": RETRY_TIMEOUT},
            )
        )
    except (BaseError, OSError, ValueError):
        # Their own messages may hold what the URL does.
        raise ConfigurationError(
            "STORAGE_URL reads file:///folder, s3://bucket/prefix, gs://… or az://…, and names "
            "what this process may use."
        ) from None


def _own(path: str) -> None:
    """Raises `TenantMismatch` unless `path` is one of the current tenant's."""
    tenant = current_tenant()
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != tenant or not all(map(_PART.fullmatch, parts[1:])):
        raise TenantMismatch(
            f"an object's path that is not {tenant}/<area>/<name> is none of {tenant}'s. "
            "Build it with object_path(area, name)."
        )


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turns the store's errors into ours, of one line each."""
    try:
        yield
    except FileNotFoundError:
        raise ObjectNotFound(f"there is no object {path}. It may have been deleted.") from None
    except (BaseError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise StorageFailed(f"{type(error).__name__} {reason}".strip()) from None


async def _pieces(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    async for piece in data:
        yield piece
