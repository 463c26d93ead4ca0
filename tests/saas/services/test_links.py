"""Links to objects: what they open, for how long, and for whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from saas.services.links import (
    LinkExpired,
    LinkForged,
    LinkTarget,
    _serializer,
    make_link,
    read_link,
)
from saas.services.object_storage import object_path
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing, TenantMismatch
from temporal_tenancy.core.scope import TenantScope, enter

PATH = "acme/exports/1.csv"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_URL", "https://saas.example/app/")
    monkeypatch.setenv("LINK_SECRET", "a secret")


def token(path: str = PATH) -> str:
    with enter(TenantScope("acme")):
        start, found = make_link(path, HOUR).split("/downloads/")
    assert start == "https://saas.example/app"
    return found


def test_a_link_opens_until_it_expires() -> None:
    now = datetime.now(UTC)
    link = token()
    assert read_link(link, now) == LinkTarget(tenant_id="acme", path=PATH)
    assert read_link(link, now + HOUR - timedelta(seconds=2)).path == PATH
    with pytest.raises(LinkExpired, match="has expired"):
        read_link(link, now + HOUR + timedelta(seconds=1))


def test_a_link_opens_the_object_of_the_tenant_in_its_own_case() -> None:
    for tenant, folder in (("acme", "acme"), ("ACME", "acme.f"), ("Acme", "acme.1")):
        with enter(TenantScope(tenant)):
            path = object_path("exports", "1.csv")
            assert path == f"{folder}/exports/1.csv"
            link = make_link(path, HOUR).rsplit("/", 1)[1]
            with pytest.raises(TenantMismatch):
                make_link(f"{tenant.swapcase()}/exports/1.csv", HOUR)
        assert read_link(link, datetime.now(UTC)) == LinkTarget(tenant_id=tenant, path=path)


@pytest.mark.parametrize("forged", ["", "x", "x.y", "ä", "a" * 10_000, "\x00", "{}.e30"])
def test_a_made_up_link_opens_nothing(forged: str) -> None:
    with pytest.raises(LinkForged):
        read_link(forged, datetime.now(UTC))


def test_a_changed_link_opens_nothing() -> None:
    link = token()
    for at in range(0, len(link), 7):
        changed = link[:at] + ("A" if link[at] != "A" else "B") + link[at + 1 :]
        with pytest.raises(LinkForged):
            read_link(changed, datetime.now(UTC))


@pytest.mark.parametrize(
    "signed", ["x", [], ["a/b"], {"a": 1}, ["a/b", "1"], ["a/b", 1, 1], [1, 1]]
)
def test_what_was_signed_for_something_else_opens_nothing(signed: object) -> None:
    with pytest.raises(LinkForged):
        read_link(str(_serializer().dumps(signed)), datetime.now(UTC))


def test_a_link_signed_with_another_secret_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    link = token()
    monkeypatch.setenv("LINK_SECRET", "another")
    with pytest.raises(LinkForged):
        read_link(link, datetime.now(UTC))


def test_no_tenant_makes_a_link_to_anothers_object() -> None:
    for foreign in ("globex/exports/1.csv", "acme", "acmeplus/exports/1.csv", "/acme/x", ""):
        with pytest.raises(TenantMismatch):
            token(foreign)
    with pytest.raises(ScopeMissing):
        make_link(PATH, HOUR)


@pytest.mark.parametrize("unset", ["WEB_URL", "LINK_SECRET"])
def test_a_missing_setting_is_named(unset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(unset, "")
    with pytest.raises(ConfigurationError, match=f"Set {unset}"):
        token()
