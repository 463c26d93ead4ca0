"""Who is claimed for beside the others, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from temporal_tenancy.outbox.relay.apart import PAUSES, Apart


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def apart(clock: Clock) -> Apart:
    return Apart(timedelta(minutes=5), clock)


def test_who_passes_alone_goes_back_at_once(apart: Apart) -> None:
    apart.suspect(["acme", "globex"])
    assert apart.next() == "acme"
    apart.passed("acme", found=True, troubled=False)
    assert "acme" not in apart
    assert apart.next() == "globex"


def test_who_fails_alone_stays_for_minutes_after_the_last_failure(
    apart: Apart, clock: Clock
) -> None:
    apart.suspect(["acme"])
    apart.failed("acme")
    clock.now += 200
    apart.failed("acme")
    clock.now += 200
    apart.passed("acme", found=True, troubled=False)
    assert "acme" in apart
    clock.now += 101
    assert apart.next() == "acme"
    apart.passed("acme", found=True, troubled=False)
    assert "acme" not in apart


def test_a_claim_that_was_slow_alone_is_a_reason_to_stay(apart: Apart, clock: Clock) -> None:
    apart.suspect(["acme"])
    apart.passed("acme", found=False, troubled=True)
    assert "acme" in apart
    assert apart.is_careful("acme")
    clock.now += 301
    assert "acme" not in apart


def test_they_take_turns_and_who_is_only_suspect_comes_first(apart: Apart, clock: Clock) -> None:
    apart.suspect(["acme", "globex"])
    turns = []
    for _ in range(4):
        clock.now += max(PAUSES)
        tenant = apart.next()
        assert tenant is not None
        apart.failed(tenant)
        turns.append(tenant)
    assert turns == ["acme", "globex", "acme", "globex"]
    apart.suspect(["initech"])
    clock.now += max(PAUSES)
    assert apart.next() == "initech"


def test_each_failure_puts_the_next_claim_off_for_longer(apart: Apart, clock: Clock) -> None:
    apart.suspect(["acme"])
    for pause in PAUSES:
        apart.failed("acme")
        clock.now += pause * 0.9
        assert apart.next() is None
        clock.now += pause * 0.2
        assert apart.next() == "acme"


def test_who_has_nothing_is_not_claimed_for_until_it_has(apart: Apart) -> None:
    apart.suspect(["acme"])
    apart.passed("acme", found=False, troubled=True)
    assert apart.next() is None
    apart.ask("acme")
    assert apart.next() == "acme"
