"""Tenants' files in a real folder: each tenant has its own, complete or absent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from saas.services.object_storage import (
    CHUNK_BYTES,
    PART_BYTES,
    ObjectNotFound,
    ObjectStorage,
    StorageFailed,
    current_storage,
    object_path,
)
from temporal_tenancy import tenant_folder
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing, TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the objects, which is created on first use."""
    folder = tmp_path / "objects of all"
    monkeypatch.setenv("STORAGE_URL", folder.as_uri())
    return folder


@pytest.fixture
def storage(folder: Path) -> ObjectStorage:
    return current_storage()


async def read(storage: ObjectStorage, path: str, *, start: int = 0) -> bytes:
    return b"".join([piece async for piece in storage.open(path, start=start)])


async def test_what_was_put_is_read_from_any_byte_on(storage: ObjectStorage, folder: Path) -> None:
    with enter(TenantScope("acme")):
        path = object_path("imports", "1.csv")
        assert path == "acme/imports/1.csv"
        assert await storage.put(path, b"email\na@b.example\n") == 18
        assert await storage.size(path) == 18
        assert await read(storage, path) == b"email\na@b.example\n"
        assert await read(storage, path, start=6) == b"a@b.example\n"
        assert await read(storage, path, start=18) == b""
    assert (folder / path).stat().st_size == 18


async def test_an_object_larger_than_a_part_is_written_and_read_piece_by_piece(
    storage: ObjectStorage,
) -> None:
    piece = os.urandom(1_000_003)
    written = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal written
        while written < 2 * PART_BYTES:
            written += len(piece)
            yield piece

    with enter(TenantScope("acme")):
        path = object_path("exports", "large.bin")
        assert await storage.put(path, pieces()) == written
        read_pieces = [part async for part in storage.open(path)]
    assert b"".join(read_pieces) == piece * (written // len(piece))
    assert max(map(len, read_pieces)) <= 2 * CHUNK_BYTES


async def test_code_that_makes_an_object_piece_by_piece_keeps_its_tenant(
    storage: ObjectStorage,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield object_path("exports", "within").encode()

    with enter(TenantScope("acme")):
        await storage.put(object_path("exports", "x"), pieces())
        assert await read(storage, object_path("exports", "x")) == b"acme/exports/within"


async def test_an_object_that_failed_half_way_is_not_there_and_leaves_what_was(
    storage: ObjectStorage,
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2 * PART_BYTES)
        raise ConnectionResetError

    with enter(TenantScope("acme")):
        before = object_path("imports", "before.csv")
        await storage.put(before, b"before")
        for path in (object_path("imports", "new.csv"), before):
            with pytest.raises(ConnectionResetError):
                await storage.put(path, broken())
        with pytest.raises(ObjectNotFound, match=r"there is no object acme/imports/new\.csv"):
            await storage.size(object_path("imports", "new.csv"))
        assert await read(storage, before) == b"before"


async def test_an_empty_object_is_one(storage: ObjectStorage) -> None:
    with enter(TenantScope("acme")):
        path = object_path("imports", "empty.csv")
        assert await storage.put(path, b"") == 0
        assert await storage.size(path) == 0
        assert await read(storage, path) == b""


async def test_ids_that_differ_by_case_have_objects_of_their_own_where_case_does_not_count(
    storage: ObjectStorage, folder: Path
) -> None:
    ids = ["acme", "ACME", "Acme", "aCME", "acme-f"]
    for tenant in ids:
        with enter(TenantScope(tenant)):
            await storage.put(object_path("imports", "1.csv"), tenant.encode())
    assert len({name.casefold() for name in os.listdir(folder)}) == len(ids)
    assert (folder / "acme" / "imports" / "1.csv").read_text() == "acme"
    for tenant in ids:
        with enter(TenantScope(tenant)):
            assert await read(storage, object_path("imports", "1.csv")) == tenant.encode()
            for other in set(ids) - {tenant}:
                for path in (f"{other}/imports/1.csv", f"{tenant_folder(other)}/imports/1.csv"):
                    with pytest.raises(TenantMismatch):
                        await storage.size(path)


async def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(
    storage: ObjectStorage,
) -> None:
    with enter(TenantScope("acme")):
        path = object_path("imports", "1.csv")
        await storage.put(path, b"x")
        await storage.delete(path)
        await storage.delete(path)
        with pytest.raises(ObjectNotFound):
            await read(storage, path)


@pytest.mark.parametrize(
    "path",
    [
        "globex/imports/1.csv",
        "acme",
        "acme/imports",
        "acme/../globex/imports",
        "acme/imports/../1.csv",
        "/acme/imports/1.csv",
        "acme/imports/1.csv/2",
        "acme//1.csv",
        "acme/imports/a\\b",
        "acme/imports/1.csv\n",
        "ACME/imports/1.csv",
    ],
)
async def test_a_path_that_is_not_the_tenants_is_refused_by_every_call(
    storage: ObjectStorage, path: str
) -> None:
    with enter(TenantScope("globex")):
        await storage.put(object_path("imports", "1.csv"), b"globex's")
    with enter(TenantScope("acme")):
        with pytest.raises(TenantMismatch):
            await storage.put(path, b"x")
        with pytest.raises(TenantMismatch):
            await read(storage, path)
        with pytest.raises(TenantMismatch):
            await storage.size(path)
        with pytest.raises(TenantMismatch):
            await storage.delete(path)
    with enter(TenantScope("globex")):
        assert await read(storage, object_path("imports", "1.csv")) == b"globex's"


async def test_without_a_tenant_there_is_no_path_and_no_object(storage: ObjectStorage) -> None:
    with pytest.raises(ScopeMissing), enter(PlatformScope("look at everything")):
        object_path("imports", "1.csv")
    with pytest.raises(ScopeMissing):
        await storage.size("acme/imports/1.csv")


@pytest.mark.parametrize(
    "part",
    ["", ".", "..", "a/b", "a\\b", "a..b", "../x", "a\x00b", "a\nb", "a b", "é", "a" * 201, ".x"],
)
def test_a_part_that_could_lead_elsewhere_is_refused(part: str) -> None:
    with enter(TenantScope("acme")):
        with pytest.raises(ValueError, match="cannot be part of an object's path"):
            object_path("imports", part)
        with pytest.raises(ValueError, match="cannot be part of an object's path"):
            object_path(part, "1.csv")


async def test_a_storage_that_cannot_be_written_says_so_and_what_to_check(
    storage: ObjectStorage, folder: Path
) -> None:
    (folder / "acme").write_text("in the way")
    with (
        enter(TenantScope("acme")),
        pytest.raises(StorageFailed, match="Check what STORAGE_URL names"),
    ):
        await storage.put(object_path("imports", "1.csv"), b"x")


@pytest.mark.parametrize("url", ["nope://x", "x", "file:///proc/version/objects"])
def test_an_address_that_is_none_is_named_without_being_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_URL", url)
    with pytest.raises(ConfigurationError, match=r"STORAGE_URL must be file:///folder") as raised:
        current_storage()
    assert "version" not in str(raised.value)


async def test_a_server_named_without_tls_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    asked: list[bytes] = []
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for name, value in {
        "STORAGE_URL": "s3://files-of-tenants",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    async with server:
        with enter(TenantScope("acme")), pytest.raises(ObjectNotFound):
            await current_storage().size(object_path("imports", "1.csv"))
    assert len(asked) == 1
    assert asked[0].startswith(b"HEAD /files-of-tenants/")


def test_an_unset_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="Set STORAGE_URL to file:///folder"):
        current_storage()
