"""Object storage for tenants' files, in a folder or an object store, with a prefix per tenant."""

from __future__ import annotations

import os
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
from temporal_tenancy import (
    ConfigurationError,
    TenantMismatch,
    current_tenant,
    tenant_folder,
)

PART_BYTES: Final = 5 * 1024 * 1024  # buffered per upload part; the minimum of S3
PARTS_AT_ONCE: Final = 2
CHUNK_BYTES: Final = 256 * 1024  # per read
PART_MAX_CHARACTERS: Final = 200
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
RETRY_TIMEOUT: Final = timedelta(seconds=30)  # beyond that, the job's own retries take over
ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # variables for a server other than AWS's

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")  # rules out ".."


class ObjectNotFound(ApplicationError):
    """The object does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class StorageFailed(Exception):
    """The object storage does not answer, or rejects the request."""

    def __init__(self, reason: str) -> None:
        self.message = f"the object storage failed: {reason}. Check what STORAGE_URL names."
        super().__init__(self.message)


def object_path(area: str, name: str) -> str:
    """Returns the path of an object of the current tenant: `{tenant's folder}/{area}/{name}`.

    `area` says what the object is for, such as `imports`. Both parts are letters, digits and `_-`,
    with single dots between them, at most 200 characters each. Raises `ScopeMissing` without a
    tenant, and `ValueError` for an invalid part.
    """
    for part in (area, name):
        if not _PART.fullmatch(part) or len(part) > PART_MAX_CHARACTERS:
            raise ValueError(
                f"{part[:80]!r} cannot be part of an object's path. Use letters, digits, _ and -, "
                f"with single dots between them, {PART_MAX_CHARACTERS} at most."
            )
    return f"{tenant_folder(current_tenant())}/{area}/{name}"


class ObjectStorage:
    """The current tenant's objects; each call rejects a path that is not the tenant's own."""

    def __init__(self, store: Store) -> None:
        """`store` contains the objects of all tenants."""
        self._store = store

    async def put(self, path: str, data: bytes | AsyncIterator[bytes]) -> int:
        """Writes or replaces an object, completely or not at all; returns its size in bytes.

        An iterator is written chunk by chunk, without keeping the object in memory.

        Raises:
            TenantMismatch: `object_path` would not build this path for the current tenant.
            StorageFailed: the storage does not accept the object.
        """
        _own(path)
        size = 0
        with _translated_errors(path):
            # If `data` fails the writer is never closed, so nothing appears at the path.
            writer = obstore.open_writer_async(
                self._store, path, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        async for piece in _pieces(data):
            size += len(piece)
            with _translated_errors(path):
                await writer.write(piece)
        with _translated_errors(path):
            await writer.close()
        return size

    async def open(self, path: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yields an object chunk by chunk, from byte `start` on.

        Raises:
            TenantMismatch: as for `put`.
            ObjectNotFound: the object does not exist.
            StorageFailed: the storage cannot read it.
        """
        size = await self.size(path)
        if start >= size:
            return  # stores reject an empty range
        with _translated_errors(path):
            found = await obstore.get_async(self._store, path, options={"range": (start, size)})
        pieces = found.stream(min_chunk_size=CHUNK_BYTES)
        while True:
            with _translated_errors(path):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    async def size(self, path: str) -> int:
        """Returns an object's size in bytes; raises the errors of `open`."""
        _own(path)
        with _translated_errors(path):
            return int((await obstore.head_async(self._store, path))["size"])

    async def delete(self, path: str) -> None:
        """Deletes an object if it exists; raises `TenantMismatch` and `StorageFailed`."""
        _own(path)
        try:
            with _translated_errors(path):
                await obstore.delete_async(self._store, path)
        except ObjectNotFound:
            return


def current_storage() -> ObjectStorage:
    """Returns the storage that STORAGE_URL names; raises `ConfigurationError` if it is not set."""
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
                client_options={"connect_timeout": CONNECT_TIMEOUT, "allow_http": _without_tls()},
                retry_config={"max_retries": 3, "retry_timeout": RETRY_TIMEOUT},
            )
        )
    except (BaseError, OSError, ValueError):
        # The original messages may contain the URL.
        raise ConfigurationError(
            "STORAGE_URL must be file:///folder, s3://bucket/prefix, gs://… or az://…, and name "
            "storage that this process may use."
        ) from None


def _without_tls() -> bool:
    """Returns whether the environment names a server by http://, such as one in the same network.

    The library reads the credentials, the region and the server from AWS_* itself.
    """
    return any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)


def _own(path: str) -> None:
    """Raises `TenantMismatch` unless `path` belongs to the current tenant."""
    tenant = current_tenant()
    folder = tenant_folder(tenant)
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != folder or not all(map(_PART.fullmatch, parts[1:])):
        raise TenantMismatch(
            f"the path of an object of {tenant} must be {folder}/<area>/<name>. "
            "Build it with object_path(area, name)."
        )


@contextmanager
def _translated_errors(path: str) -> Iterator[None]:
    """Turns the store's errors into this module's, with one-line messages."""
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
