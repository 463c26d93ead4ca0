"""A mutant: one fault, and the tests that should find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def nothing() -> None:
    """The seed of a fault that is only in the schema."""


@dataclass(frozen=True)
class Mutant:
    """One fault, seeded into a run of the tests that should find it."""

    name: str
    what: str  # the fault in a few words
    killers: tuple[str, ...]  # files or ids of tests, as pytest takes them
    seed: Callable[[], None] = nothing  # changes the code, after the tests have been collected
    schema: str = ""  # SQL that a superuser sends to the migrated database


def replace(target: object, name: str, value: object) -> None:
    """Replaces the attribute `name` of `target` by `value`.

    Raises:
        AttributeError: `target` has no such attribute, so this would be no fault.
    """
    getattr(target, name)
    setattr(target, name, value)
