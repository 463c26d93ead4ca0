"""The API's limits, as the environment sets them, and its deadline for a body."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.web.bodies import Pace
from processes.web.limits import Limits
from saas.settings import Settings
from temporal_tenancy.core.errors import ConfigurationError

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference" / "door.md").read_text()


def test_without_a_setting_they_are_what_they_are_without_settings() -> None:
    assert Limits.of(Settings(_env_file=None)) == Limits()


@pytest.mark.parametrize("name", [each.name for each in fields(Limits)])
def test_each_has_a_setting_that_is_told_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "TRUSTED_PROXIES" if name == "trusted_proxies" else f"WEB_{name.upper()}"
    other = "10.0.0.0/8, ::1" if name == "trusted_proxies" else str(getattr(Limits(), name) + 1)
    assert f"`{variable}`" in REFERENCE
    monkeypatch.setenv(variable, other)
    changed = Limits.of(Settings())
    assert [
        each.name
        for each in fields(Limits)
        if getattr(changed, each.name) != getattr(Limits(), each.name)
    ] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_PROXIES", "10.0.0.1/8"),  # bits behind the network's
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("WEB_CONNECTIONS", "500"),  # no more than requests
    ],
)
def test_what_does_not_hold_together_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        Limits.of(Settings())


@given(st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 3)), max_size=50))
def test_who_is_let_go_on_has_kept_the_rate(pieces: list[tuple[int, float]]) -> None:
    rate, window, seconds = 1_000, 2.0, 20.0
    pace = Pace(rate, window, seconds)
    came = waited = 0.0
    for size, late in pieces:
        if late > pace.patience:
            return
        pace.came(size, late)
        came, waited = came + size, waited + late
        assert waited <= seconds
        assert waited <= window + came / rate + 1e-6
        assert pace.patience <= window
