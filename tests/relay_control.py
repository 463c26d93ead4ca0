"""What a relay test decides of the jobs that are started, and what it sees of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable


class Control:
    """What the test decides, and what it sees."""

    def __init__(self) -> None:
        self.holding: set[str] = set()  # tenants whose work does not end
        self.released = asyncio.Event()
        self.running: Counter[str] = Counter()  # by tenant
        self.most_running: Counter[str] = Counter()
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


async def work(tenant: str) -> None:
    """Is seen to run, for as long as the test has it."""
    here = control
    async with here.seen:
        here.running[tenant] += 1
        here.most_running[tenant] = max(here.most_running[tenant], here.running[tenant])
        here.seen.notify_all()
    try:
        if tenant in here.holding:
            await here.released.wait()
    finally:
        async with here.seen:
            here.running[tenant] -= 1
            here.seen.notify_all()
