"""Context variables whose value is good inside the block that gave it, and refused behind its end.

A task, a thread or a callback takes a copy of the context along. What it finds there may be of a
block that has ended since, and then it is another's work that would be done with it.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
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
# They run a fixture's generator to its end, whatever becomes of the test.
_FINISHERS: Final = frozenset({"_pytest", "pytest_asyncio", "anyio"})


class Held(Generic[Value]):
    """A context variable that a block gives its value."""

    def __init__(self, name: str, what: str, *, in_generators: bool = False) -> None:
        """
        Args:
            name: of the context variable.
            what: what it holds, as a sentence begins: "the tenant's record".
            in_generators: a generator that is no context manager may give it a value, which only
                the code that the generator calls then sees. Otherwise that is refused.
        """
        self.what = what
        self.in_generators = in_generators
        self.variable: ContextVar[Block[Any] | None] = ContextVar(name, default=None)

    def during(self, value: Value) -> Block[Value]:
        """Gives it `value` inside the block, and what it had before after it, by token."""
        return Block(self, value)

    def get(self) -> Value | None:
        """Its value here; None where no block gives one.

        Raises `ScopeMissing` where the block has ended.
        """
        block = self.block()
        if block is None:
            return None
        if block.ended and not workflow.in_workflow():
            raise ScopeMissing(
                f"{self.what} was given for a block that has ended, and this code was not waited "
                "for there. Wait for it inside the block, or start it in a context of its own."
            )
        return block.value

    def last(self) -> Value | None:
        """As `get`, also where the block has ended."""
        block = self.block()
        return None if block is None else block.value

    def block(self) -> Block[Value] | None:
        """The innermost block that this code is in, or was carried out of."""
        block = self.variable.get()
        while block is not None and block.in_generator and not _runs(block.generator):
            block = block.outer
        return block


class Block(Generic[Value]):
    """One block in which a context variable is given its value."""

    __slots__ = ("_held", "_token", "ended", "generator", "in_generator", "outer", "value")

    def __init__(self, held: Held[Value], value: Value) -> None:
        self.value = value
        self.ended = False
        self.outer: Block[Any] | None = None  # the block around it
        self.in_generator = False  # then it is seen only by what the generator calls
        self.generator: FrameType | None = None
        self._held = held
        self._token: Token[Block[Any] | None] | None = None

    def __enter__(self) -> Value:
        self.heed_generator(sys._getframe(1))
        self.outer = self._held.variable.get()
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
        if self.in_generator and self._held.variable.get() is not self:
            return  # it is closed late, and its caller is in another block by now
        assert self._token is not None
        # A coroutine that is thrown away unfinished (a workflow that leaves the worker's cache),
        # and a generator that a thread began, are closed in another context: the one in which it
        # was set is gone with its task.
        with suppress(ValueError):
            self._held.variable.reset(self._token)

    def begin(self) -> None:
        """Gives the variable its value."""
        if self._token is not None:
            raise RuntimeError("a block is entered once: make another one for each.")
        self._token = self._held.variable.set(self)

    def heed_generator(self, frame: FrameType) -> None:
        """Refuses a block that begins, at `frame`, in a generator that may be left in its middle.

        Python leaves the generator's caller in what the generator has set.
        """
        generator = _left_open(frame)
        if generator is None:
            return
        if self._held.in_generators:
            self.in_generator, self.generator = True, generator
        elif applies():
            name = generator.f_code.co_name
            raise ScopeMissing(
                f"{self._held.what} is given in the generator {name}, whose caller would have it "
                f"too, also after a break. Do it around the loop or in a function that {name} "
                f"calls, or make {name} a context manager (contextlib)."
            )


def applies() -> bool:
    """Whether this code is refused what an earlier release let it do.

    An open run goes on as it began: what its history has gone past is not refused on replay.
    """
    return (
        not workflow.in_workflow()
        or workflow.unsafe.is_read_only()
        or workflow.patched(PATCH_BLOCKS)
    )


def _left_open(frame: FrameType) -> FrameType | None:
    """The generator in which the block begins that is entered at `frame`; None: in none.

    One that a context manager or a test's fixture is made of does not count, as it is run to its
    end, but the generator does that enters this one.
    """
    here: FrameType | None = frame
    while here is not None:
        code, caller = here.f_code, here.f_back
        if code.co_flags & _GENERATORS and not code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            if caller is None or not _finishes(caller):
                return here
        elif code.co_name not in _ENTERING:
            return None
        here = caller
    return None


def _finishes(caller: FrameType) -> bool:
    name = caller.f_code.co_name
    if name in _ENTERING or name in _LEAVING:
        return True
    module: str = caller.f_globals.get("__name__", "")
    return module.partition(".")[0] in _FINISHERS


def _runs(generator: FrameType | None) -> bool:
    """Whether this code is the generator's, or was called by it."""
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not generator:
        here = here.f_back
    return here is not None
