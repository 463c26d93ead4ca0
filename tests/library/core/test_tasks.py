"""Tasks end although a cancellation is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from temporal_tenancy.core import tasks
from temporal_tenancy.core.tasks import end_tasks

IN_TIME = 5.0  # seconds


async def repeat(lost: int) -> None:
    """Repeats something for ever, and loses cancellations as asyncio.wait_for() can."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not lost:
                raise
            lost -= 1


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN", 0.01)


async def test_a_task_ends_that_loses_a_cancellation() -> None:
    task = asyncio.create_task(repeat(lost=1))
    await asyncio.sleep(0)
    async with asyncio.timeout(IN_TIME):
        assert not await end_tasks(task)
    assert task.cancelled()


async def test_what_does_not_end_in_time_is_left() -> None:
    stubborn, other = asyncio.create_task(repeat(lost=1_000)), asyncio.create_task(repeat(lost=0))
    await asyncio.sleep(0)
    assert list(await end_tasks(stubborn, other, within=0.05)) == [stubborn]
    assert other.cancelled()
    await end_tasks(stubborn)


@pytest.mark.parametrize("end", [lambda: None, lambda: 1 / 0])
async def test_what_has_ended_is_left_as_it_is(end: Callable[[], object]) -> None:
    async def work() -> object:
        return end()

    task = asyncio.create_task(work())
    await asyncio.wait((task,))
    assert not await end_tasks(task)
    assert not task.cancelled()
