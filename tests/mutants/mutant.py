"""What a mutant is: one fault, and the tests that are meant to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def nothing() -> None:
    """The seed of a fault that is in the schema alone."""


@dataclass(frozen=True)
class Mutant:
    """One fault, seeded into a run of the tests that are meant to find it."""

    name: str
    what: str  # a few words: what is wrong
    killers: tuple[str, ...]  # files or ids of tests, as pytest takes them
    seed: Callable[[], None] = nothing  # changes the code, after the tests have been collected
    schema: str = ""  # SQL that a superuser sends to the migrated database


def replace(target: object, name: str, value: object) -> None:
    """Puts `value` in the place of what `target` has by that name.

    Raises `AttributeError` when it has nothing by that name: the fault would not be one.
    """
    getattr(target, name)
    setattr(target, name, value)
