"""Signals that end a program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from dev.devstack.signals import ENDING, orderly_stop, undisturbed


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_leaves_the_block_with_its_exit_code(number: signal.Signals, code: int) -> None:
    with pytest.raises(SystemExit) as left, orderly_stop():
        signal.raise_signal(number)
    assert left.value.code == code


def test_the_second_signal_does_not_disturb_the_stop() -> None:
    stopped = []

    @contextmanager
    def part() -> Iterator[None]:
        try:
            yield
        finally:
            signal.raise_signal(signal.SIGTERM)
            stopped.append("part")

    with pytest.raises(SystemExit) as left, orderly_stop(), part():
        signal.raise_signal(signal.SIGINT)
    assert (stopped, left.value.code) == (["part"], 130)


def test_each_signal_is_told_at_once_even_while_a_part_stops() -> None:
    told: Queue[int] = Queue()

    @contextmanager
    def part() -> Iterator[None]:
        try:
            yield
        finally:
            assert told.get(timeout=10) == 1
            signal.raise_signal(signal.SIGINT)
            assert told.get(timeout=10) == 2

    with pytest.raises(SystemExit) as left, orderly_stop(told.put), part():
        signal.raise_signal(signal.SIGINT)
    assert (left.value.code, told.empty()) == (130, True)


def test_a_signal_inside_an_undisturbed_block_is_ignored() -> None:
    with orderly_stop(), undisturbed():
        for number in ENDING:
            signal.raise_signal(number)


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_stop():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with orderly_stop():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before
