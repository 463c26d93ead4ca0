"""Random programs of scopes, tasks, threads and generators against a model of what each may see.

Parts of a program may be carried out of their block. Wherever the program looks, it must see the
scope, or the refusal, that the model says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from temporal_tenancy.core.errors import ScopeMissing, TenancyError
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, current_scope, enter

SCOPES: tuple[Scope, ...] = (TenantScope("ua"), TenantScope("dl"), PlatformScope("a test"))
CLOSED, FOREIGN, BARE = "closed", "another's", "a bare generator"


@dataclass(frozen=True)
class Look:
    """Records the current scope."""


@dataclass(frozen=True)
class Enter:
    """Runs `body` in a scope that a function, a context manager or a generator enters."""

    scope: Scope
    how: str
    body: Sequence[Step]


class Carrier(StrEnum):
    """What carries a context along."""

    TASK = "task"
    THREAD = "thread"
    COPY = "copied context"


@dataclass(frozen=True)
class Carry:
    """Runs `body` in a task, a thread or a copied context: here, or after the block."""

    carrier: Carrier
    behind: bool
    body: Sequence[Step]


Step = Look | Enter | Carry

PLAIN, MANAGED, GENERATOR = "plain", "managed", "generator"
programs = st.recursive(
    st.lists(st.just(Look()), max_size=1),
    lambda inner: st.lists(
        st.one_of(
            st.just(Look()),
            st.builds(
                Enter, st.sampled_from(SCOPES), st.sampled_from([PLAIN, MANAGED, GENERATOR]), inner
            ),
            st.builds(Carry, st.sampled_from(Carrier), st.booleans(), inner),
        ),
        max_size=4,
    ),
    max_leaves=12,
)


# The model


@dataclass
class Block:
    """A block that has been entered."""

    scope: Scope
    around: Block | None
    ended: bool = False

    @property
    def is_closed(self) -> bool:
        return self.ended or (self.around is not None and self.around.is_closed)


def expected(program: Sequence[Step]) -> list[str]:
    """Returns what the program's looks see, in order."""
    seen: list[str] = []
    _expect(program, None, seen)
    return seen


def _expect(program: Sequence[Step], here: Block | None, seen: list[str]) -> None:
    """What is carried behind a block runs after its other steps, once the block has ended."""
    behind: list[tuple[Sequence[Step], Block | None]] = []
    _expect_inside(program, here, seen, behind)
    for body, block in behind:
        _expect(body, block, seen)


def _expect_inside(
    program: Sequence[Step],
    here: Block | None,
    seen: list[str],
    behind: list[tuple[Sequence[Step], Block | None]],
) -> None:
    for step in program:
        if isinstance(step, Look):
            seen.append(_sight(here))
        elif isinstance(step, Carry):
            if step.behind:
                behind.append((step.body, here))
            else:
                _expect(step.body, here, seen)
        elif (refusal := _refusal(step, here)) is not None:
            seen.append(refusal)
        else:
            block = Block(step.scope, here)
            later: list[tuple[Sequence[Step], Block | None]] = []
            _expect_inside(step.body, block, seen, later)
            block.ended = True
            for body, carried in later:
                _expect(body, carried, seen)


def _sight(here: Block | None) -> str:
    if here is None:
        return "nobody's"
    return CLOSED if here.is_closed else str(here.scope)


def _refusal(step: Enter, here: Block | None) -> str | None:
    if step.how == GENERATOR:
        return BARE
    if here is None:
        return None
    if here.is_closed:
        return CLOSED
    is_tenants = isinstance(here.scope, TenantScope)
    return FOREIGN if is_tenants and here.scope != step.scope else None


# The same with the library


async def seen_by(program: Sequence[Step]) -> list[str]:
    seen: list[str] = []
    await asyncio.create_task(_run(program, seen))
    return seen


Later = Callable[[], Coroutine[Any, Any, object]]


async def _run(program: Sequence[Step], seen: list[str]) -> None:
    behind: list[Later] = []
    await _run_inside(program, seen, behind)
    for later in behind:
        await later()


async def _run_inside(program: Sequence[Step], seen: list[str], behind: list[Later]) -> None:
    for step in program:
        if isinstance(step, Look):
            try:
                seen.append("nobody's" if (scope := current_scope()) is None else str(scope))
            except ScopeMissing:
                seen.append(CLOSED)
        elif isinstance(step, Carry):
            happen = _carried(step, seen)
            if step.behind:
                behind.append(happen)
            else:
                await happen()
        else:
            later: list[Later] = []
            try:
                await _run_entered(step, seen, later)
            except TenancyError as error:
                seen.append(_named(error))
            for happen in later:
                await happen()


async def _run_entered(step: Enter, seen: list[str], behind: list[Later]) -> None:
    if step.how == PLAIN:
        with enter(step.scope):
            await _run_inside(step.body, seen, behind)
    elif step.how == MANAGED:
        async with asynccontextmanager(_entered)(step.scope):
            await _run_inside(step.body, seen, behind)
    else:
        async for _ in _entered(step.scope):
            break
        await _run_inside(step.body, seen, behind)


async def _entered(scope: Scope) -> AsyncIterator[None]:
    with enter(scope):
        yield


def _named(error: TenancyError) -> str:
    if "generator" in error.message:
        return BARE
    return CLOSED if "closed" in error.message else FOREIGN


def _carried(step: Carry, seen: list[str]) -> Later:
    """Gives the carrier the context now; the result runs the body in it, to its end."""
    if step.carrier is Carrier.COPY:
        context = copy_context()

        async def go_on() -> None:
            await asyncio.create_task(_run(step.body, seen), context=context)

        return go_on
    if step.carrier is Carrier.TASK:
        released = asyncio.Event()

        async def work() -> None:
            await released.wait()
            await _run(step.body, seen)

        task = asyncio.create_task(work())

        async def release() -> None:
            released.set()
            await task

        return release
    thread_released = threading.Event()

    def work_in_a_thread() -> None:
        assert thread_released.wait(10)
        asyncio.run(_run(step.body, seen))

    threaded = asyncio.create_task(asyncio.to_thread(work_in_a_thread))

    async def release_thread() -> None:
        thread_released.set()
        await threaded

    return release_thread


UA, DL, PLATFORM = SCOPES
LOOK = (Look(),)


@example([Enter(UA, PLAIN, [Carry(Carrier.TASK, True, LOOK)]), Look()])
@example([Enter(UA, PLAIN, [Carry(Carrier.THREAD, True, [Enter(DL, PLAIN, LOOK)])])])
@example([Enter(UA, GENERATOR, LOOK), Look()])
@example([Enter(PLATFORM, PLAIN, [Enter(UA, MANAGED, [Carry(Carrier.COPY, True, LOOK)]), Look()])])
@settings(max_examples=300, deadline=None)
@given(program=programs)
def test_each_point_of_a_program_sees_its_own_scope_or_is_refused(program: Sequence[Step]) -> None:
    assert asyncio.run(seen_by(program)) == expected(program)
