"""Helpers of the demo: running commands, checking claims, and using the database."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from rich.console import Console

from dev import local_saas
from dev.devstack.stack import Stack
from temporal_tenancy import Database

Result = TypeVar("Result")

console: Final = Console(highlight=False, soft_wrap=True)


class NotHeld(Exception):
    """A claim of the demo does not hold."""


def command(
    stack: Stack, *arguments: str, owner: bool = False, text: bool = False, expect: int = 0
) -> Any:  # the command's answer, as JSON
    """Prints and runs a `starter.py` command; returns its answer.

    With `text`, prints the answer as people see it, and returns None.
    """
    console.print(f"[dim]$ starter.py {shlex.join(arguments)}[/]")
    if text:
        console.print(local_saas.starter_text(stack, *arguments), markup=False)
        return None
    # A run that failed in part answers too; the caller judges the answer.
    return local_saas.starter(stack, *arguments, owner=owner, expect=expect)


def title(words: str) -> None:
    """Prints the title of a part."""
    console.print(f"\n[bold]{words}[/]")


def hold(held: bool, what: str, shown: bool = True) -> None:
    """Prints a claim that holds; raises `NotHeld` for one that does not."""
    if not held:
        raise NotHeld(f"this does not hold: {what}")
    if shown:
        console.print(f"  [green]✓[/] {what}")


async def with_database(stack: Stack, work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Runs `work` on the stack's database."""
    database = local_saas.runtime_database(stack)
    try:
        return await work(database)
    finally:
        await database.dispose()
