"""A process of consumers: it starts, stops in order at a signal, and ends when one fails."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from temporal_tenancy.lifecycle import Consumers, Process, WorkerFailed, run_process
from temporal_tenancy.lifecycle._events import EVENTS, Events, Kind
from temporal_tenancy.sdk import JobContext, JsonLines


class Line:
    """A consumer of a queue that a test ends."""

    task_queue = "bulk"

    def __init__(self) -> None:
        self.is_running = self.is_shutdown = False
        self.ended = asyncio.Event()
        self.error: Exception | None = None

    async def run(self) -> None:
        self.is_running = True
        await self.ended.wait()
        self.is_running, self.is_shutdown = False, True
        if self.error is not None:
            raise self.error

    async def shutdown(self) -> None:
        self.ended.set()


@pytest.fixture(autouse=True)
def _collector_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would keep all that the tests have made.
    monkeypatch.setattr("temporal_tenancy.lifecycle._process.spare_what_is_loaded", lambda: None)


def process(**options: Any) -> Process:
    return Process(queues=["bulk"], identity="me", **options)


@pytest.mark.parametrize("kind", ["worker", "relay"])
async def test_a_signal_stops_it_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Kind
) -> None:
    caplog.set_level(logging.INFO, "temporal_tenancy.lifecycle")
    ready, order = tmp_path / "ready", []

    @asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        order.append(f"ready: {ready.exists()}")
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            yield
        finally:
            order.append("no longer beside")

    async def make(stack: AsyncExitStack) -> Consumers:
        stack.callback(order.append, "closed")
        return Consumers(consumers=[Line(), Line()], beside=beside())

    settings = process(
        ready_file=ready,
        health_port=0,
        grace=timedelta(seconds=1),
        drain_delay=timedelta(0),
        kind=kind,
    )
    await run_process(settings, make)
    assert order == ["ready: True", "no longer beside", "closed"]
    written = json.loads(ready.read_text())
    assert (written["identity"], written["queues"]) == ("me", ["bulk"])
    assert written["health"].startswith("http://127.0.0.1:")
    said = [record.message for record in caplog.records]
    assert said == [f"{kind}.{stage}" for stage in ("starting", "started", "stopping", "stopped")]
    assert vars(caplog.records[-1])["signal"] == "SIGTERM"


@pytest.mark.parametrize(
    ("number", "delay"), [(signal.SIGTERM, 0.3), (signal.SIGTERM, 0.0), (signal.SIGINT, 60.0)]
)
async def test_readiness_is_false_before_it_drains(
    tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    ready = tmp_path / "ready"
    told: dict[str, float] = {}

    async def is_ready() -> bool:
        address = json.loads(ready.read_text())["health"]
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{address}/readyz")).status_code == 200

    class Drained(Line):
        async def shutdown(self) -> None:
            assert not await is_ready()
            told["drains"] = time.monotonic()
            await super().shutdown()

    @asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        assert await is_ready()
        told["signal"] = time.monotonic()
        os.kill(os.getpid(), number)
        watching = asyncio.create_task(unready_at())
        try:
            yield
        finally:
            told["unready"] = await watching

    async def unready_at() -> float:
        while await is_ready():
            pass
        return time.monotonic()

    async def make(stack: AsyncExitStack) -> Consumers:
        return Consumers(consumers=[Drained()], beside=beside())

    settings = process(ready_file=ready, health_port=0, drain_delay=timedelta(seconds=delay))
    await run_process(settings, make)
    assert told["unready"] <= told["drains"]
    waited = told["drains"] - told["signal"]
    assert waited < 30
    if number == signal.SIGTERM:
        assert waited >= delay


async def test_a_worker_that_fails_while_it_waits_to_drain_ends_the_wait() -> None:
    broken = Line()
    broken.error = RuntimeError("out of order")

    @asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        asyncio.get_running_loop().call_later(0.05, broken.ended.set)
        yield

    async def make(stack: AsyncExitStack) -> Consumers:
        return Consumers(consumers=[broken], beside=beside())

    settings = process(health_port=0, drain_delay=timedelta(minutes=10))
    with pytest.raises(WorkerFailed):
        await run_process(settings, make)


@pytest.mark.parametrize("kind", EVENTS)
def test_every_stage_has_an_event_of_its_kind(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "temporal_tenancy.lifecycle")
    stages = [name for name in vars(Events) if not name.startswith("_")]
    for stage in stages:
        write = getattr(EVENTS[kind], stage)
        write(*["given"] * len(inspect.signature(write).parameters))
    assert len({record.message for record in caplog.records}) == len(stages)
    assert {record.message.partition(".")[0] for record in caplog.records} == {kind}


async def test_one_that_fails_ends_the_others_and_the_process() -> None:
    well, broken = Line(), Line()
    broken.error = RuntimeError("out of order")
    broken.ended.set()

    async def make(stack: AsyncExitStack) -> Consumers:
        return Consumers(consumers=[well, broken])

    with pytest.raises(WorkerFailed, match=r"^a worker could not go on: out of order\.$"):
        await run_process(process(), make)
    assert well.is_shutdown


async def test_a_signal_while_it_connects_cancels_that() -> None:
    closed: list[bool] = []

    async def make(stack: AsyncExitStack) -> Consumers:
        stack.callback(closed.append, True)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    await run_process(process(), make)
    assert closed == [True]


def test_a_line_is_one_json_object_that_no_terminal_acts_on() -> None:
    record = logging.makeLogRecord(
        {"name": "myapp", "levelno": 20, "levelname": "INFO", "msg": "note.sent \u202e%s"}
        | {"args": ("x",), "tenant_id": "acme", "text": "a\x1b\nb", "at": Path("/x")}
    )
    try:
        raise ValueError("no")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert JobContext("me").filter(record)
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found.pop("exception").endswith("ValueError: ***")
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {
        "level": "info",
        "event": "note.sent \u202ex",
        "logger": "myapp",
        "tenant_id": "acme",
        "text": "a\x1b\nb",
        "at": "/x",
        "worker": "me",
    }
