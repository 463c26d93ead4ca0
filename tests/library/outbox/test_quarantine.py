"""Which tenants are claimed for separately, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from temporal_tenancy.outbox.relay._quarantine import PAUSES, Quarantine


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(clock: Clock) -> Quarantine:
    return Quarantine(timedelta(minutes=5), clock)


def test_who_passes_alone_goes_back_at_once(quarantine: Quarantine) -> None:
    quarantine.suspect(["acme", "globex"])
    assert quarantine.next() == "acme"
    quarantine.passed("acme", found=True, troubled=False)
    assert "acme" not in quarantine
    assert quarantine.next() == "globex"


def test_who_fails_alone_stays_for_minutes_after_the_last_failure(
    quarantine: Quarantine, clock: Clock
) -> None:
    quarantine.suspect(["acme"])
    quarantine.failed("acme")
    clock.now += 200
    quarantine.failed("acme")
    clock.now += 200
    quarantine.passed("acme", found=True, troubled=False)
    assert "acme" in quarantine
    clock.now += 101
    assert quarantine.next() == "acme"
    quarantine.passed("acme", found=True, troubled=False)
    assert "acme" not in quarantine


def test_a_claim_that_was_slow_alone_is_a_reason_to_stay(
    quarantine: Quarantine, clock: Clock
) -> None:
    quarantine.suspect(["acme"])
    quarantine.passed("acme", found=False, troubled=True)
    assert "acme" in quarantine
    assert quarantine.is_careful("acme")
    clock.now += 301
    assert "acme" not in quarantine


def test_they_take_turns_and_who_is_only_suspect_comes_first(
    quarantine: Quarantine, clock: Clock
) -> None:
    quarantine.suspect(["acme", "globex"])
    turns = []
    for _ in range(4):
        clock.now += max(PAUSES)
        tenant = quarantine.next()
        assert tenant is not None
        quarantine.failed(tenant)
        turns.append(tenant)
    assert turns == ["acme", "globex", "acme", "globex"]
    quarantine.suspect(["initech"])
    clock.now += max(PAUSES)
    assert quarantine.next() == "initech"


def test_each_failure_puts_the_next_claim_off_for_longer(
    quarantine: Quarantine, clock: Clock
) -> None:
    quarantine.suspect(["acme"])
    for pause in PAUSES:
        quarantine.failed("acme")
        clock.now += pause * 0.9
        assert quarantine.next() is None
        clock.now += pause * 0.2
        assert quarantine.next() == "acme"


def test_who_has_nothing_is_not_claimed_for_until_it_has(quarantine: Quarantine) -> None:
    quarantine.suspect(["acme"])
    quarantine.passed("acme", found=False, troubled=True)
    assert quarantine.next() is None
    quarantine.ask("acme")
    assert quarantine.next() == "acme"
