"""A credential is never used for a host that it was not given for, wherever storing it failed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saas.services import partner_credentials
from saas.services.partner_credentials import (
    credential_for,
    has_credential_for,
    put_credential,
    remove_credential,
)
from saas.services.secrets import SecretMissing, SecretRefused, current_secrets
from temporal_tenancy.core.scope import TenantScope, enter

HOSTS: Final = ("https://one.example/a", "https://two.example/a", "https://one.example:8443/a")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECRETS_URL", tmp_path.as_uri())
    return tmp_path


def usable(url: str) -> str | None:
    """Returns the credential for a URL; None if there is none."""
    try:
        found = credential_for("crm", url)
    except SecretMissing:
        assert not has_credential_for("crm", url)
        return None
    assert has_credential_for("crm", url)
    return found


def failing_after(calls: int, call: Callable[..., Any]) -> Callable[..., Any]:
    def limited(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise OSError(28, "no space")
        return call(*arguments, **options)

    return limited


STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove"]),
        st.sampled_from(HOSTS),
        st.integers(0, 4),  # changes of files until the disk is full
    ),
    max_size=6,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_wherever_storing_fails_a_credential_serves_its_own_host_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, str, int]]
) -> None:
    store = current_secrets()  # which otherwise reads all settings, each time
    monkeypatch.setattr(partner_credentials, "current_secrets", lambda: store)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # slow, and not what is tested
    with enter(TenantScope("acme")):
        remove_credential("crm")
        put_credential("crm", HOSTS[0], f"for {HOSTS[0]}")
        for number, (step, url, changes) in enumerate(steps):
            done = False
            with monkeypatch.context() as full:
                for name in ("replace", "unlink"):
                    full.setattr(os, name, failing_after(changes, getattr(os, name)))
                try:
                    if step == "put":
                        put_credential("crm", url, f"for {url} {number}")
                        done = True
                    else:
                        remove_credential("crm")
                except SecretRefused:
                    pass
            if done:
                assert usable(url) == f"for {url} {number}"
            for each in HOSTS:
                if (found := usable(each)) is not None:
                    assert found.split()[1] == each


def test_what_has_no_host_is_for_the_integrations_url(folder: Path) -> None:
    (folder / "acme").mkdir()
    (folder / "acme" / "integrations.crm").write_text("from an earlier release\n")
    with enter(TenantScope("acme")):
        assert usable(HOSTS[0]) == "from an earlier release"
        put_credential("crm", HOSTS[1], "new")
        assert [usable(url) for url in HOSTS] == [None, "new", None]
        with pytest.raises(SecretMissing, match="given for another host"):
            credential_for("crm", HOSTS[0])
        remove_credential("crm")
        assert list((folder / "acme").iterdir()) == []
