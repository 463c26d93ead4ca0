"""What the demo shows things with: commands, what has to hold, and the database."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from rich.console import Console

from dev import local_saas
from dev.devstack.stack import Stack
from temporal_tenancy.postgres.database import Database

Result = TypeVar("Result")

console: Final = Console(highlight=False, soft_wrap=True)


class NotHeld(Exception):
    """Something that the demo shows is not so."""


def command(
    stack: Stack, *arguments: str, owner: bool = False, text: bool = False, expect: int = 0
) -> Any:  # what the command answers, as JSON
    """Runs `starter.py`, shown as a person would type it; its answer, or None where it is shown."""
    console.print(f"[dim]$ starter.py {shlex.join(arguments)}[/]")
    if text:
        console.print(local_saas.starter_text(stack, *arguments), markup=False)
        return None
    # A run of which a part failed answers as well: what it says is judged by the caller.
    return local_saas.starter(stack, *arguments, owner=owner, expect=expect)


def title(words: str) -> None:
    """Begins a part."""
    console.print(f"\n[bold]{words}[/]")


def hold(held: bool, what: str, shown: bool = True) -> None:
    """Ticks off what has held; raises `NotHeld` for what has not."""
    if not held:
        raise NotHeld(f"it is not so that {what}")
    if shown:
        console.print(f"  [green]✓[/] {what}")


async def with_database(stack: Stack, work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Does `work` on the stack's database."""
    database = local_saas.runtime_database(stack)
    try:
        return await work(database)
    finally:
        await database.dispose()
