"""SIGTERM and Ctrl-C: the first asks for an orderly stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Self, TypeVar

from temporal_tenancy.lifecycle._events import EVENTS, Events

T = TypeVar("T")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopRequested(Exception):
    """A signal arrived before the work was done."""


class StopRequest:
    """Whether the process was asked to stop, and by which signal."""

    def __init__(self, events: Events = EVENTS["worker"]) -> None:
        """`events`: writes that a second signal ended the process."""
        self._events = events
        self.signal = ""
        self.requested = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Handles the signals during the block."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._receive, number)
        try:
            yield self
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def unless_requested(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of `work`; on a signal, cancels it and raises `StopRequested`."""
        working = asyncio.create_task(work)
        waiting = asyncio.create_task(self.requested.wait())
        try:
            await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)
        raise StopRequested

    async def until_ended(self, *tasks: asyncio.Task[Any]) -> None:
        """Waits until a task ends; on a signal raises `StopRequested` without cancelling any."""
        await self.unless_requested(_wait_for(tasks))

    async def linger(self, delay: timedelta, *tasks: asyncio.Task[Any]) -> None:
        """Waits for `delay` before the process drains, or until a task ends.

        Ctrl-C is a person's, who waits for the end: after it nothing is waited for.
        """
        if self.signal != signal.SIGINT.name and delay > timedelta(0):
            waiting = asyncio.create_task(asyncio.sleep(delay.total_seconds()))
            await _wait_for([waiting, *tasks])
            waiting.cancel()

    def _receive(self, number: signal.Signals) -> None:
        if self.requested.is_set():
            self._events.aborted(number.name)
            os._exit(128 + number)
        self.signal = number.name
        self.requested.set()


async def _wait_for(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
