"""How busy this machine is, from the seconds that its processors were idle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.devstack import load
from dev.devstack.load import Load


@pytest.mark.parametrize(("idle", "is_busy"), [(0.0, True), (0.1, True), (0.3, False), (2, False)])
def test_a_machine_that_is_hardly_idle_is_busy(
    monkeypatch: pytest.MonkeyPatch, idle: float, is_busy: bool
) -> None:
    looks: Iterator[tuple[float, float]] = iter([(50.0, 100.0), (50.0 + idle, 101.0)])
    monkeypatch.setattr(load, "_seconds", lambda: next(looks))
    monkeypatch.setattr(load, "GLANCE", 0.0)
    assert Load().was_busy() is is_busy


def test_a_look_that_follows_at_once_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Iterator[tuple[float, float]] = iter([(50.0, 100.0), (50.0, 101.0)])
    monkeypatch.setattr(load, "_seconds", lambda: next(looks))
    monkeypatch.setattr(load, "GLANCE", 0.0)
    machine = Load()
    assert machine.was_busy()
    monkeypatch.setattr(load, "GLANCE", 3600.0)
    assert machine.was_busy()


def test_idle_seconds_are_some_of_all() -> None:
    idle, all_ = load._seconds()
    assert 0 <= idle <= all_
