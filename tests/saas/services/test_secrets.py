"""Tenants' credentials: each reads only its own, at every use."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from saas.services.secrets import (
    SECRET_MAX_BYTES,
    SecretMissing,
    SecretRefused,
    SecretStore,
    current_secrets,
)
from temporal_tenancy import tenant_folder
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of two tenants' credentials."""
    for tenant in ("acme", "globex"):
        (tmp_path / tenant).mkdir()
        (tmp_path / tenant / "partner").write_text(f"of {tenant}\n")
    monkeypatch.setenv("SECRETS_URL", tmp_path.as_uri())
    return tmp_path


def secret(tenant: str, name: str) -> str:
    with enter(TenantScope(tenant)):
        return current_secrets().get(name)


@pytest.mark.usefixtures("folder")
def test_each_tenant_reads_its_own_without_the_lines_end() -> None:
    assert secret("acme", "partner") == "of acme"
    assert secret("globex", "partner") == "of globex"


def test_ids_that_differ_by_case_have_credentials_of_their_own(folder: Path) -> None:
    with pytest.raises(SecretMissing, match=r"Put it into acme\.f/partner below"):
        secret("ACME", "partner")
    for tenant in ("ACME", "Acme"):
        (folder / tenant_folder(tenant)).mkdir()
        (folder / tenant_folder(tenant) / "partner").write_text(f"of {tenant}")
    for tenant in ("acme", "ACME", "Acme"):
        assert secret(tenant, "partner") == f"of {tenant}"
    assert len({path.name.casefold() for path in folder.iterdir()}) == 4


def test_a_rotated_credential_is_used_at_once(folder: Path) -> None:
    store = current_secrets()
    with enter(TenantScope("acme")):
        assert store.get("partner") == "of acme"
        (folder / "acme" / "partner").write_text("rotated")
        assert store.get("partner") == "rotated"


def test_a_credential_that_is_mounted_by_a_link_is_read(folder: Path) -> None:
    (folder / "acme" / "..2026").mkdir()
    (folder / "acme" / "..2026" / "payments.webhook").write_text("whsec_1")
    (folder / "acme" / "payments.webhook").symlink_to("..2026/payments.webhook")
    assert secret("acme", "payments.webhook") == "whsec_1"


@pytest.mark.usefixtures("folder")
def test_a_credential_that_is_not_there_is_named_with_where_to_put_it() -> None:
    with pytest.raises(SecretMissing, match=r'acme has no credential "mail"\. Put it into acme/m'):
        secret("acme", "mail")
    with pytest.raises(SecretMissing, match="initech has no credential"):
        secret("initech", "partner")
    with enter(TenantScope("acme")):
        assert current_secrets().find("payments.webhook.previous") is None


def test_an_empty_file_is_no_credential(folder: Path) -> None:
    (folder / "acme" / "partner").write_text("\n")
    with pytest.raises(SecretMissing):
        secret("acme", "partner")


@pytest.mark.parametrize("content", [b"hunter2 \xff", b"hunter2" * SECRET_MAX_BYTES])
def test_what_cannot_be_read_is_not_told(folder: Path, content: bytes) -> None:
    (folder / "acme" / "partner").write_bytes(content)
    with pytest.raises(SecretMissing, match="cannot be read") as caught:
        secret("acme", "partner")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "name",
    ["../globex/partner", "..", ".", "", "a/b", "a\\b", "a..b", "partner\x00", "partner\n", "Ä"],
)
def test_a_name_cannot_lead_out_of_the_tenants_folder(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        secret("acme", name)


def test_no_credential_is_read_without_a_tenant(folder: Path) -> None:
    store = SecretStore(folder)
    with pytest.raises(ScopeMissing):
        store.get("partner")
    with enter(PlatformScope("look around")), pytest.raises(ScopeMissing):
        store.get("partner")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "Set SECRETS_URL"),
        ("https://vault.example", "must be file:///folder"),
        ("file://elsewhere/folder", "must be file:///folder"),
        ("/folder", "must be file:///folder"),
    ],
)
def test_a_store_that_is_none_is_refused(
    url: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS_URL", url)
    with pytest.raises(ConfigurationError, match=complaint):
        current_secrets()


def put(tenant: str, name: str, value: str) -> None:
    with enter(TenantScope(tenant)):
        current_secrets().put(name, value)


def test_a_credential_that_is_stored_is_the_tenants_own_and_readable_by_nobody_else(
    folder: Path,
) -> None:
    put("initech", "integrations.crm", "first")
    put("initech", "integrations.crm", "second")
    assert secret("initech", "integrations.crm") == "second"
    assert [path.name for path in (folder / "initech").iterdir()] == ["integrations.crm"]
    assert stat.S_IMODE((folder / "initech").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "initech" / "integrations.crm").stat().st_mode) == 0o600
    assert secret("acme", "partner") == "of acme"


@pytest.mark.parametrize("value", ["", "\n", "hunter2\n", "hunter2" * SECRET_MAX_BYTES])
def test_what_could_not_be_read_back_is_not_stored(folder: Path, value: str) -> None:
    with pytest.raises(SecretRefused) as caught:
        put("acme", "partner", value)
    assert "hunter2" not in str(caught.value)
    assert secret("acme", "partner") == "of acme"


@pytest.mark.parametrize("name", ["..", "../globex/partner", "a/b", "", ".hidden", "a..b"])
def test_a_name_that_leads_elsewhere_is_neither_stored_nor_removed(folder: Path, name: str) -> None:
    with enter(TenantScope("acme")):
        with pytest.raises(ValueError, match="cannot be the name"):
            current_secrets().put(name, "x")
        with pytest.raises(ValueError, match="cannot be the name"):
            current_secrets().remove(name)
    assert secret("globex", "partner") == "of globex"


def test_a_credential_that_is_removed_is_gone_and_may_be_removed_again(folder: Path) -> None:
    with enter(TenantScope("acme")):
        for _ in range(2):
            current_secrets().remove("partner")
        assert current_secrets().find("partner") is None
    assert secret("globex", "partner") == "of globex"


def test_a_store_that_cannot_be_written_says_so_and_not_where(folder: Path) -> None:
    (folder / "initech").write_text("in the way")
    with pytest.raises(SecretRefused, match="cannot be written") as caught:
        put("initech", "partner", "hunter2")
    assert "hunter2" not in str(caught.value)
    assert str(folder) not in str(caught.value)
