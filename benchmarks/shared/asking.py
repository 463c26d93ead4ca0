"""Asks one question after another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from benchmarks.shared.measure import Answer, tell
from dev.devstack.errors import PartMissing


class Named(Protocol):
    """A question's module."""

    @property
    def NAME(self) -> str:
        """The name in what is told of it."""


Asked = TypeVar("Asked", bound=Named)


def print_answers(
    questions: Iterable[Asked], ask: Callable[[Asked], Sequence[Answer]], **told: str
) -> bool:
    """Prints a line for each answer, with `told` in it; returns whether every goal holds.

    A question that fails has no answer, and those after it are asked nevertheless: all together
    take long.

    Raises:
        PartMissing: nothing can be measured here.
    """
    all_hold = True
    for question in questions:
        try:
            answers = ask(question)
        except PartMissing:
            raise
        except Exception:
            traceback.print_exc()
            tell(f"{question.NAME} failed, so it has no answer.")
            all_hold = False
            continue
        for answer in answers:
            print(answer.line(**told), flush=True)
            all_hold &= answer.holds
    return all_hold
