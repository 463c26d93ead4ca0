"""The files with the connections of stores: what they take, and what their errors do not tell."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.stores.secrets import FileConnectionSecrets

URL = "postgresql://tenancy_tenant:s3cr3t@db.example:5432/t_1"


async def test_a_changed_file_is_read_again(connection_secrets: FileConnectionSecrets) -> None:
    connection_secrets.put("t_1.tenant", URL)
    assert await connection_secrets.url("t_1.tenant") == URL
    rotated = URL.replace("s3cr3t", "n3w")
    connection_secrets.put("t_1.tenant", rotated)
    found = await connection_secrets.url("t_1.tenant")
    assert found == rotated
    assert "n3w" not in repr(found)


def test_this_user_alone_can_read_what_is_stored(
    connection_secrets: FileConnectionSecrets, tmp_path: Path
) -> None:
    connection_secrets.put("t_1.tenant", URL)
    folder = tmp_path / "connections"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "t_1.tenant").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["t_1.tenant"]


@pytest.mark.parametrize("name", ["../etc", "a/b", ".hidden", "", "a..b", "A", "a\n"])
async def test_a_name_leads_out_of_no_folder(
    connection_secrets: FileConnectionSecrets, name: str
) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        await connection_secrets.url(name)


@pytest.mark.parametrize(
    "content", [b"", b"s3cr3t", b"\xffs3cr3t", b"mysql://a:s3cr3t@b/c", URL.encode() * 1000]
)
async def test_what_is_no_url_is_not_told(
    connection_secrets: FileConnectionSecrets, tmp_path: Path, content: bytes
) -> None:
    connection_secrets.put("t_1.tenant", URL)
    (tmp_path / "connections" / "t_1.tenant").write_bytes(content)
    with pytest.raises(ConnectionSecretMissing, match=r'"t_1.tenant" cannot be read') as raised:
        await connection_secrets.url("t_1.tenant")
    assert "s3cr3t" not in f"{raised.value!r} {raised.value.__cause__!r}"


async def test_a_missing_file_is_named(connection_secrets: FileConnectionSecrets) -> None:
    with pytest.raises(ConnectionSecretMissing, match=r'no connection "t_1.tenant"'):
        await connection_secrets.url("t_1.tenant")
    connection_secrets.remove("t_1.tenant")


@pytest.mark.parametrize("url", ["/folder", "https://x/y", "file://host/folder", "file://"])
def test_only_a_folder_of_this_machine_is_taken(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CONNECTIONS must be file:///folder"):
        FileConnectionSecrets.from_url(url, "CONNECTIONS")
