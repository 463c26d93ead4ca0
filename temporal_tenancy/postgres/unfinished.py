"""Work on a transaction that has to be awaited before the transaction's block ends.

A coroutine that nobody awaits does nothing, so the block would commit without what it asks for.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from temporal_tenancy.core.errors import NotAwaited

Result = TypeVar("Result")


class Unfinished:
    """The work that was begun in a transaction's block and has not finished."""

    def __init__(self) -> None:
        self._work: set[Work[Any]] = set()

    def add(self, work: Work[Any]) -> None:
        """Adds work; `discard` removes it when it has finished."""
        self._work.add(work)

    def discard(self, work: Work[Any]) -> None:
        """Removes work that has finished, failed, or was cancelled or closed."""
        self._work.discard(work)

    def require_none(self) -> None:
        """Raises `NotAwaited` if there is any."""
        if not self._work:
            return
        work = list(self._work)
        for each in work:
            each.give_up()
        names = " and ".join(sorted({each.name for each in work}))
        raise NotAwaited(
            f"{names} was called in this block and not awaited to its end, so it is not in the "
            "transaction, which was rolled back. Write await before the call."
        )


class Work(Coroutine[Any, Any, Result]):
    """A coroutine that a transaction's block has to await, alone, in a task or in a group."""

    def __init__(self, work: Coroutine[Any, Any, Result], name: str, among: Unfinished) -> None:
        """
        Args:
            work: the coroutine itself.
            name: the call, for the error.
            among: the unfinished work of the block's transaction.
        """
        self.name = name
        self._work = work
        self._among = among
        self._steps: Generator[Any, Any, Result] | None = None
        among.add(self)

    def __await__(self) -> Generator[Any, Any, Result]:
        """Runs the work; its block may end once this has."""
        try:
            return (yield from self._work.__await__())
        finally:
            self._among.discard(self)

    def send(self, value: Any) -> Any:  # as a coroutine's
        """Runs the work to its next wait, for a task."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(
        self,
        kind: Any,  # as a coroutine's
        value: Any = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Raises an exception in the work, for a task that is cancelled."""
        error: Any = kind if value is None else value
        if isinstance(error, type):
            error = error()
        if self._steps is not None:
            return self._steps.throw(error)
        try:
            return self._work.throw(error)  # it has not begun
        finally:
            self._among.discard(self)

    def give_up(self) -> None:
        """Closes the work if it has not begun; Python would warn that nobody has awaited it."""
        if self._steps is None and inspect.getcoroutinestate(self._work) == inspect.CORO_CREATED:
            self._work.close()

    def close(self) -> None:
        """Ends the work where it is."""
        if self._steps is not None:
            self._steps.close()
        self._work.close()
        self._among.discard(self)


class Call(Work[Result]):
    """A call that a transaction's block has to await; it counts as finished once it has begun.

    A session's method that is running as the block ends has its own errors.
    """

    def __await__(self) -> Generator[Any, Any, Result]:
        """Runs the call."""
        self._among.discard(self)
        return self._work.__await__()

    def send(self, value: Any) -> Any:  # as a coroutine's
        """Runs the call to its next wait, for a task."""
        self._among.discard(self)
        return super().send(value)
