"""The activity that waits until a test lets it go, and the order in which workers took it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from temporal_tenancy.core.activities import tenant_activity


class Turns:
    """What was taken, and whether it may end."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.taken = asyncio.Condition()
        self.released = asyncio.Event()

    async def until(self, count: int) -> None:
        """Waits until so many have been taken."""
        async with self.taken:
            await self.taken.wait_for(lambda: len(self.order) >= count)


turns = Turns()


def new_turns() -> Turns:
    """Forgets what was before."""
    global turns
    turns = Turns()
    return turns


class Turn(BaseModel):
    name: str
    holds: bool = False


@tenant_activity
async def take_turn(turn: Turn) -> None:
    here = turns
    async with here.taken:
        here.order.append(turn.name)
        here.taken.notify_all()
    if turn.holds:
        await here.released.wait()


ACTIVITIES: list[Callable[..., Any]] = [take_turn]
