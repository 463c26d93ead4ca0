"""Activities that a test holds and sees, so that a suspension can come while they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from temporalio import activity

from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.sdk.heartbeats import heartbeating

LOOK = 0.05  # seconds between a thread's looks at whether it may end


class Control:
    """What the test decides, and what it sees."""

    def __init__(self) -> None:
        self.begun: list[str] = []  # attempts, in words
        self.released = asyncio.Event()
        self.threads_released = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Condition()

    def begin(self) -> int:
        """Writes an attempt down; returns the position at which it begins."""
        info = activity.info()
        position = info.heartbeat_details[0] if info.heartbeat_details else 0
        said = f"{current_tenant()}, attempt {info.attempt}, from {position}"
        asyncio.run_coroutine_threadsafe(self._tell(said), self._loop)
        return int(position)

    def release(self) -> None:
        """Lets every activity end."""
        self.released.set()
        self.threads_released.set()

    async def _tell(self, said: str) -> None:
        async with self._news:
            self.begun.append(said)
            self._news.notify_all()

    async def until_begun(self, count: int) -> None:
        """Returns once so many attempts have begun."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.begun) >= count)


control: Control


def new_control() -> Control:
    """Forgets what was decided and seen before."""
    global control
    control = Control()
    return control


class Steps(BaseModel):
    name: str = ""


@tenant_activity
async def step_on(steps: Steps) -> int:
    """Takes a step in each attempt, and ends when it may."""
    here = control
    async with heartbeating() as heart:
        position = here.begin()
        heart.beat(position)
        heart.beat(position + 1)  # which the SDK holds back
        await here.released.wait()
    return position


@tenant_activity
def step_on_in_a_thread(steps: Steps) -> int:
    here = control
    position = here.begin()
    while not here.threads_released.wait(LOOK):
        activity.heartbeat(position + 1)
    return position


@tenant_activity
def hold_a_thread_in_silence(steps: Steps) -> int:
    here = control
    position = here.begin()
    here.threads_released.wait()
    return position


ACTIVITIES: list[Callable[..., Any]] = [step_on, step_on_in_a_thread, hold_a_thread_in_silence]
