"""What a fan-out test decides and sees, and the activity that obeys it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.scope import current_tenant


class Control:
    """What the test decides, and what it sees."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.holding: set[str] = set()
        self.released = asyncio.Event()
        self.runs: Counter[str] = Counter()
        self.running: set[str] = set()
        self.most_running = 0
        self.seen = asyncio.Condition()


control = Control()


def new_control() -> Control:
    """Forgets what was decided and seen before."""
    global control
    control = Control()
    return control


async def until(condition: Callable[[Control], bool]) -> None:
    """Waits until what has been seen meets `condition`."""
    here = control
    async with here.seen:
        await here.seen.wait_for(lambda: condition(here))


class Work(BaseModel):
    tick: str


@tenant_activity
async def controlled_work(work: Work) -> str:
    here, tenant = control, current_tenant()
    async with here.seen:
        here.runs[tenant] += 1
        here.running.add(tenant)
        here.most_running = max(here.most_running, len(here.running))
        here.seen.notify_all()
    try:
        if tenant in here.holding:
            await here.released.wait()
        if tenant in here.failing:
            raise ApplicationError(f"{tenant} is broken", type="Broken", non_retryable=True)
    finally:
        async with here.seen:
            here.running.discard(tenant)
            here.seen.notify_all()
    return tenant


ACTIVITIES: list[Callable[..., Any]] = [controlled_work]
