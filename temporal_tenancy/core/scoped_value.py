"""Context variables whose value is valid only inside the block that provides it.

A task, thread or callback inherits a copy of the context and may outlive the block that provided
the value. Using the value then would do one tenant's work as another, so reading it raises.
"""

from __future__ import annotations

import gc
import inspect
import sys
from contextlib import _AsyncGeneratorContextManager, suppress
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any, Final, Generic, TypeVar

from temporalio import workflow

from temporal_tenancy.core.errors import ScopeMissing

PATCH_BLOCKS: Final = "temporal-tenancy-blocks"

Value = TypeVar("Value")

_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ENTERING: Final = frozenset({"__enter__", "__aenter__", "enter_context", "enter_async_context"})
_LEAVING: Final = frozenset({"__exit__", "__aexit__"})
# These always run a fixture's generator to its end, even when the test fails.
_FINISHERS: Final = frozenset({"_pytest", "pytest_asyncio", "anyio"})


class ScopedValue(Generic[Value]):
    """A context variable with a value inside a block and none after it."""

    def __init__(self, name: str, description: str, *, in_generators: bool = False) -> None:
        """
        Args:
            name: the name of the context variable.
            description: what the value is, as the start of a sentence: "the tenant's record".
            in_generators: whether a generator that is not a context manager may provide a value.
                Only code that the generator calls then sees it. If False, providing one there
                raises `ScopeMissing`.
        """
        self.description = description
        self.in_generators = in_generators
        self.variable: ContextVar[Block[Any] | None] = ContextVar(name, default=None)

    def provide(self, value: Value) -> Block[Value]:
        """Returns a context manager that sets the value and restores the previous one on exit."""
        return Block(self, value)

    def get(self) -> Value | None:
        """Returns the current value, or None where no block provides one.

        Raises:
            ScopeMissing: the block that provided the value has ended.
        """
        block = self.current_block()
        if block is None:
            return None
        if block.ended and not workflow.in_workflow():
            raise ScopeMissing(
                f"{self.description} belongs to a block that has ended, and the block did not wait "
                "for this code. Wait for it inside the block, or start it in a new context."
            )
        return block.value

    def peek(self) -> Value | None:
        """Returns the current value, even if its block has ended; None where there is none."""
        block = self.current_block()
        return None if block is None else block.value

    def current_block(self) -> Block[Value] | None:
        """Returns the innermost block that this code was started in, whether or not it ended."""
        block = self.variable.get()
        while block is not None and block.in_generator and not _is_running(block.generator):
            block = block.outer
        return block


class Block(Generic[Value]):
    """A context manager that provides the value of a context variable; entered once."""

    __slots__ = ("_scoped_value", "_token", "ended", "generator", "in_generator", "outer", "value")

    def __init__(self, scoped_value: ScopedValue[Value], value: Value) -> None:
        self.value = value
        self.ended = False
        self.outer: Block[Any] | None = None  # the enclosing block
        self.in_generator = False  # if so, only code that the generator calls sees the value
        self.generator: FrameType | None = None
        self._scoped_value = scoped_value
        self._token: Token[Block[Any] | None] | None = None

    def __enter__(self) -> Value:
        self.check_generator(sys._getframe(1))
        self.outer = self._scoped_value.variable.get()
        self.begin()
        return self.value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended = True
        self.generator = None
        if self.in_generator and self._scoped_value.variable.get() is not self:
            return  # The generator was closed late, and its caller has entered another block.
        assert self._token is not None
        # An unfinished coroutine that is discarded (a workflow evicted from the worker's cache) and
        # a generator that was started in a thread are closed in another context. The context that
        # the variable was set in is gone with its task, so there is nothing to reset.
        with suppress(ValueError):
            self._scoped_value.variable.reset(self._token)

    def begin(self) -> None:
        """Sets the variable.

        Raises:
            RuntimeError: the block was entered before.
        """
        if self._token is not None:
            raise RuntimeError("a block can be entered only once. Create a new one.")
        self._token = self._scoped_value.variable.set(self)

    def check_generator(self, frame: FrameType) -> None:
        """Handles a block that is entered, at `frame`, in a generator that may never be finished.

        Python leaks what a generator sets into its caller's context.

        Raises:
            ScopeMissing: the value may not be provided in such a generator.
        """
        generator = _open_generator(frame)
        if generator is None:
            return
        if self._scoped_value.in_generators:
            self.in_generator, self.generator = True, generator
        elif is_enforced():
            name = generator.f_code.co_name
            raise ScopeMissing(
                f"{self._scoped_value.description} is set in the generator {name}, so its caller "
                "would see it too, even after a break. Set it around the loop or in a function "
                f"that {name} calls, or make {name} a context manager (contextlib)."
            )


def is_enforced() -> bool:
    """Returns whether checks that earlier releases did not have apply to this code.

    A workflow run that started before them continues without them, so that replay of its history
    does not fail.
    """
    return (
        not workflow.in_workflow()
        or workflow.unsafe.is_read_only()
        or workflow.patched(PATCH_BLOCKS)
    )


def _open_generator(frame: FrameType) -> FrameType | None:
    """Returns the generator in which the block entered at `frame` begins; None if in none.

    The generator behind a context manager or a test fixture does not count, because it is always
    run to its end. A generator that enters such a context manager does.
    """
    here: FrameType | None = frame
    while here is not None:
        code, caller = here.f_code, here.f_back
        if code.co_flags & _GENERATORS and not code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            if (caller is None or not _runs_to_end(caller)) and not _has_manager(here):
                return here
        elif code.co_name not in _ENTERING:
            return None
        here = caller
    return None


def _runs_to_end(caller: FrameType) -> bool:
    name = caller.f_code.co_name
    if name in _ENTERING or name in _LEAVING:
        return True
    module: str = caller.f_globals.get("__name__", "")
    return module.partition(".")[0] in _FINISHERS


def _has_manager(generator: FrameType) -> bool:
    """Returns whether a context manager has the generator, of all those that there are.

    Python leaves the manager out of an asynchronous generator's callers while it handles an error
    of what it awaited, such as a timeout. Rarely asked: the search takes some hundredths of a
    second.
    """
    return any(
        getattr(each.gen, "ag_frame", None) is generator
        for each in gc.get_objects()
        if issubclass(type(each), _AsyncGeneratorContextManager)
    )


def _is_running(generator: FrameType | None) -> bool:
    """Returns whether this code is in the generator or was called by it."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not generator:
        here = here.f_back
    return here is not None
