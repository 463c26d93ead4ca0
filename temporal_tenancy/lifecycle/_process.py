"""Runs a process of workers or relays: starts, polls, reports its health, and stops in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporal_tenancy.lifecycle._collector import spare_what_is_loaded
from temporal_tenancy.lifecycle._consumers import Consumer
from temporal_tenancy.lifecycle._events import EVENTS, Events, Kind
from temporal_tenancy.lifecycle._health import Health, Probe, Scrape, serving
from temporal_tenancy.lifecycle._problems import WorkerFailed
from temporal_tenancy.lifecycle._ready_file import write_ready_file
from temporal_tenancy.lifecycle._stop_request import StopRequest, StopRequested

CANCEL_SECONDS: Final = 10.0
"""Seconds for activities to end after being cancelled."""
DRAIN_DELAY: Final = timedelta(seconds=1)
"""How long a process that is told to stop says that it is not ready before it drains."""
START_LOOK: Final = 0.02  # seconds between two checks whether all consumers take work
ABANDONED: Final = 1  # the exit code of a process whose activities ignore their cancellation


@dataclass(frozen=True, kw_only=True)
class Process:
    """The settings of a process."""

    queues: Sequence[str]  # for the log and the ready file
    identity: str  # in Temporal and in log lines
    version: str | None = None  # of the code, for its log; None: unknown
    health_host: str = "127.0.0.1"
    health_port: int | None = None  # 0: any free port; None: no health door
    scrape: Scrape | None = None  # the health door's /metrics; None: it has none
    ready_file: Path | None = None  # written when ready for work
    grace: timedelta | None = None  # for activities at shutdown; None: as long as it takes
    drain_delay: timedelta = DRAIN_DELAY
    """How long `/readyz` is false before a process with a health port drains after SIGTERM."""
    what: str = "a worker"  # runs here, for the message when it fails
    kind: Kind = "worker"  # for the events in its log


@dataclass(frozen=True, kw_only=True)
class Consumers:
    """What a process runs, once everything that it needs has answered."""

    consumers: Sequence[Consumer]
    probes: Mapping[str, Probe] = field(default_factory=dict)  # by the reason when one fails
    beside: AbstractAsyncContextManager[None] = field(default_factory=nullcontext)
    """Entered while the consumers take work."""
    announced: AbstractAsyncContextManager[None] = field(default_factory=nullcontext)
    """Likewise: says that this process runs; see `temporal_tenancy.control_plane.announced`."""


async def run_process(
    process: Process, make: Callable[[AsyncExitStack], Coroutine[Any, Any, Consumers]]
) -> None:
    """Works until SIGTERM or Ctrl-C; returns after an orderly shutdown.

    `/healthz` and `/readyz` answer from the start. `/readyz` is false as soon as a signal arrives.
    After SIGTERM the process still takes work for `drain_delay`, so that whoever asks `/readyz` can
    turn to another one; after Ctrl-C it drains at once. The second signal ends the process at once,
    and so does an activity that ignores its cancellation after the grace time.

    Args:
        process: the settings.
        make: checks and connects what the process needs, and returns its consumers. A signal
            cancels it. It closes what it opens with the stack, after the shutdown.

    Raises:
        PortInUse: the health port cannot be opened.
        WorkerFailed: a consumer ended with an error.
        Exception: whatever `make` raises.
    """
    events = EVENTS[process.kind]
    health = Health(events=events)
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(StopRequest(events).listening())
        address = None
        if process.health_port is not None:
            address = await stack.enter_async_context(
                serving(
                    health,
                    host=process.health_host,
                    port=process.health_port,
                    scrape=process.scrape,
                )
            )
        queues = list(process.queues)
        events.starting(queues, address, process.version)
        try:
            made = await stop.unless_requested(make(stack))
        except StopRequested:
            events.stopped(stop.signal)
            return
        health.probes = made.probes
        health.workers = made.consumers
        await _work(made, health, stop, process, address)


async def _work(
    made: Consumers, health: Health, stop: StopRequest, process: Process, address: str | None
) -> None:
    running = [asyncio.create_task(consumer.run()) for consumer in made.consumers]
    began = time.monotonic()
    failed = asyncio.create_task(_first_failure(running))
    queues, events = list(process.queues), EVENTS[process.kind]
    grace = None if process.grace is None else process.grace.total_seconds()

    def stopping() -> None:
        nonlocal began
        began, health.stopping = time.monotonic(), True
        events.stopping(stop.signal, grace)

    try:
        await stop.until_ended(failed, asyncio.create_task(_until_polling(made.consumers)))
        if not failed.done():
            spare_what_is_loaded()
            events.started(queues, address, process.version)
            if process.ready_file is not None:
                write_ready_file(
                    process.ready_file, identity=process.identity, queues=queues, health=address
                )
            async with made.announced, made.beside:
                try:
                    await stop.until_ended(failed)
                except StopRequested:
                    stopping()
                    if address is not None:
                        await stop.linger(process.drain_delay, failed)
    except StopRequested:
        pass
    failed.cancel()
    if not health.stopping:
        stopping()
    most = None if grace is None else grace + CANCEL_SECONDS
    await _shut_down(made.consumers, running, most, events)
    events.stopped(stop.signal, round(time.monotonic() - began, 2))
    for task in running:
        error = task.exception()
        if error is not None:
            raise WorkerFailed(f"{process.what} could not go on: {error}.") from error


async def _first_failure(running: Sequence[asyncio.Task[None]]) -> None:
    """Returns when a consumer has ended, which before a shutdown means that it failed."""
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


async def _until_polling(consumers: Sequence[Consumer]) -> None:
    # The SDK has no event for this.
    while not all(each.is_running for each in consumers):  # noqa: ASYNC110
        await asyncio.sleep(START_LOOK)


async def _shut_down(
    consumers: Sequence[Consumer],
    running: Sequence[asyncio.Task[None]],
    seconds: float | None,
    events: Events,
) -> None:
    """Stops all consumers; ends the process if an activity ignores its cancellation."""
    shutdowns = asyncio.gather(*(consumer.shutdown() for consumer in consumers))
    _, late = await asyncio.wait(running, timeout=seconds)
    if late:
        events.abandoned(seconds)
        os._exit(ABANDONED)
    await shutdowns
