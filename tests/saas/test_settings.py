"""The environment variables are what the reference says, and a misspelled one is refused."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from saas.settings import Settings, load_settings, refuse_misspelled_settings
from temporal_tenancy import ConfigurationError

REFERENCE = Path(__file__).parents[2] / "docs/reference"


def settings_in_seconds() -> list[str]:
    """The variables that a table of the reference describes in seconds, and each timedelta."""
    found = {
        name.upper() for name, each in Settings.model_fields.items() if each.annotation is timedelta
    }
    for page in REFERENCE.glob("*.md"):
        for row in re.findall(r"^\|.*seconds.*\|$", page.read_text(), re.MULTILINE):
            names = re.findall(r"`([A-Z][A-Z_]+)`", row)
            found |= {name for name in names if name.lower() in Settings.model_fields}
    return sorted(found - {"WEB_BODY_RATE"})  # bytes per second


@pytest.mark.parametrize("name", settings_in_seconds())
@pytest.mark.parametrize("written", ["5", "5.0", "2.5"])
def test_a_setting_that_the_reference_describes_in_seconds_takes_seconds(
    name: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, written)
    value: Any = getattr(load_settings(), name.lower())
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    assert seconds == float(written)


def test_the_limits_of_a_transaction_are_among_them() -> None:
    assert {"TENANT_STATEMENT_TIMEOUT", "RELAY_BACKOFF", "WEB_HEAD_SECONDS"} <= {
        *settings_in_seconds()
    }


@pytest.mark.parametrize(
    ("written", "read"), [("PT5S", timedelta(seconds=5)), ("00:00:07", timedelta(seconds=7))]
)
def test_a_duration_is_also_read_as_it_always_was(
    written: str, read: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANT_LOCK_TIMEOUT", written)
    assert load_settings().tenant_lock_timeout == read


@pytest.mark.parametrize("written", ["soon", "nan", "inf", "1e300", "5s", "-"])
def test_what_is_no_duration_is_refused_in_one_sentence(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANT_LOCK_TIMEOUT", written)
    with pytest.raises(ConfigurationError, match=r"^the environment is invalid: TENANT_LOCK_TIME"):
        load_settings()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("TENANT_POOL_SZIE", "TENANT_POOL_SIZE"),
        ("WORKER_GRACE_SECOND", "WORKER_GRACE_SECONDS"),
        ("TEMPORAL_ADRESS", "TEMPORAL_ADDRESS"),
        ("TEMPORAL_NAMESPCE", "TEMPORAL_NAMESPACE"),
    ],
)
def test_a_misspelled_variable_is_refused_with_the_one_that_was_meant(
    wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(right, raising=False)
    monkeypatch.setenv(wrong, "1")
    with pytest.raises(
        ConfigurationError, match=f'{wrong}, which is not .* Did you mean "{right}"'
    ):
        refuse_misspelled_settings()


def test_the_environment_is_read_again_only_if_it_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TENANT_POOL_SIZE", "7")
    before = load_settings()
    assert load_settings() is before
    monkeypatch.setenv("TENANT_POOL_SIZE", "8")
    assert (before.tenant_pool_size, load_settings().tenant_pool_size) == (7, 8)
