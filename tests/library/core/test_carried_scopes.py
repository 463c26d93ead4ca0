"""A scope carried out of its block is closed, and no generator leaks it to its caller."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import pytest

from temporal_tenancy.core.directory import (
    current_directory,
    current_tenant_record,
    use_directory,
    use_tenant_record,
)
from temporal_tenancy.core.errors import ScopeMissing, TenancyError, TenantMismatch
from temporal_tenancy.core.scope import (
    PlatformScope,
    Scope,
    TenantScope,
    current_scope,
    current_tenant,
    enter,
)
from temporal_tenancy.outbox._events import current_event_id, use_event_ids
from temporal_tenancy.postgres.database import Database, current_database, use_database
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.log_lines import LogLines

UA, DL, PLATFORM = TenantScope("ua"), TenantScope("dl"), PlatformScope("a test")

Use = Callable[[], object]
Later = Callable[[Use], Callable[[], Awaitable[object]]]
"""Arranges for a use in the current context; the second call has it happen."""


def by_a_task(use: Use) -> Callable[[], Awaitable[object]]:
    released = asyncio.Event()

    async def work() -> object:
        await released.wait()
        return use()

    task = asyncio.create_task(work())

    def happen() -> Awaitable[object]:
        released.set()
        return task

    return happen


def by_a_consumer(use: Use) -> Callable[[], Awaitable[object]]:
    """A consumer that the first caller starts, and that goes on for later callers."""
    asked: asyncio.Queue[asyncio.Future[object]] = asyncio.Queue()

    async def consume() -> None:
        answer = await asked.get()
        try:
            answer.set_result(use())
        except Exception as error:
            answer.set_exception(error)

    consumer = asyncio.create_task(consume())

    async def happen() -> object:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        asked.put_nowait(answer)
        await consumer
        return await answer

    return happen


def by_a_thread(use: Use) -> Callable[[], Awaitable[object]]:
    released = threading.Event()

    def work() -> object:
        assert released.wait(10)
        return use()

    task = asyncio.ensure_future(asyncio.to_thread(work))

    async def happen() -> object:
        released.set()
        return await task

    return happen


def by_a_pool(use: Use) -> Callable[[], Awaitable[object]]:
    context = copy_context()

    async def happen() -> object:
        with ThreadPoolExecutor(1) as pool:
            return await asyncio.get_running_loop().run_in_executor(pool, context.run, use)

    return happen


def by_a_callback(use: Use) -> Callable[[], Awaitable[object]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()
    context = copy_context()  # as call_later() and add_done_callback() call it

    def work() -> None:
        try:
            answer.set_result(use())
        except Exception as error:
            answer.set_exception(error)

    def happen() -> Awaitable[object]:
        loop.call_soon(work, context=context)
        return answer

    return happen


WAYS: list[Later] = [by_a_task, by_a_consumer, by_a_thread, by_a_pool, by_a_callback]


@pytest.mark.parametrize("later", WAYS)
@pytest.mark.parametrize("use", [current_tenant, current_scope])
async def test_what_is_carried_out_of_a_scope_is_refused(later: Later, use: Use) -> None:
    with enter(UA):
        happen = later(use)
    with enter(DL), pytest.raises(ScopeMissing, match="the scope of tenant ua, which is closed"):
        await happen()


@pytest.mark.parametrize("later", WAYS)
async def test_what_is_waited_for_inside_a_scope_has_it(later: Later) -> None:
    with enter(UA):
        assert await later(current_tenant)() == "ua"


@pytest.mark.parametrize("wanted", [UA, DL, PLATFORM])
async def test_a_closed_scope_is_no_place_to_enter_another_from(wanted: Scope) -> None:
    def use() -> object:
        with enter(wanted):
            return current_scope()

    for scope in (UA, PLATFORM):
        with enter(scope):
            happen = by_a_task(use)
        with pytest.raises(ScopeMissing, match="closed"):
            await happen()


async def test_a_scope_entered_anew_ends_with_the_one_around_it() -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        with enter(UA):
            entered.set()
            await released.wait()
            return current_tenant()

    with enter(UA):
        task = asyncio.create_task(work())
        await entered.wait()
    released.set()
    with pytest.raises(ScopeMissing, match="closed"):
        await task


async def test_an_inner_scopes_end_leaves_the_outer_open() -> None:
    with enter(PLATFORM):
        with enter(UA):
            happen = by_a_task(current_tenant)
        assert current_scope() == PLATFORM
        with pytest.raises(ScopeMissing, match="closed"):
            await happen()


async def test_a_context_of_its_own_is_no_carried_scope() -> None:
    async def work() -> Scope | None:
        return current_scope()

    with enter(UA):
        task = asyncio.create_task(work(), context=Context())
    assert await task is None


async def test_the_use_of_a_closed_scope_is_logged_once_and_by_whose_it_is(
    log_lines: LogLines,
) -> None:
    with enter(UA):
        carried = [by_a_task(current_tenant) for _ in range(3)]
    with enter(UA):
        carried.append(by_a_task(current_tenant))
    for happen in carried:
        with pytest.raises(ScopeMissing):
            await happen()
    lines = log_lines.all("scope.used_after_close")
    assert [line["tenant_id"] for line in lines] == ["ua", "ua"]


# Who may enter which scope


ALLOWED: list[tuple[Scope | None, Scope]] = [
    (None, UA),
    (None, PLATFORM),
    (UA, UA),
    (PLATFORM, PLATFORM),
    (PLATFORM, PlatformScope("another reason")),
    (PLATFORM, UA),
]


@pytest.mark.parametrize(("around", "wanted"), ALLOWED)
def test_a_scope_is_entered_from_none_the_same_or_the_platforms(
    around: Scope | None, wanted: Scope
) -> None:
    with ExitStack() as stack:
        if around is not None:
            stack.enter_context(enter(around))
        with enter(wanted):
            assert current_scope() == wanted
        assert current_scope() == around


@pytest.mark.parametrize(
    ("around", "wanted", "error", "said"),
    [
        ([UA], DL, TenantMismatch, "a job of dl, or in a platform activity"),
        ([UA], PLATFORM, ScopeMissing, "in a platform activity"),
        ([PLATFORM, UA], DL, TenantMismatch, "works for tenant ua"),
        ([PLATFORM, UA], PLATFORM, ScopeMissing, "works for tenant ua"),
    ],
)
def test_nobody_enters_another_owner_from_inside_a_tenants_scope(
    around: list[Scope], wanted: Scope, error: type[TenancyError], said: str
) -> None:
    with ExitStack() as stack:
        for scope in around:
            stack.enter_context(enter(scope))
        with pytest.raises(error, match=said), enter(wanted):
            pass
        assert current_scope() == around[-1]


# Generators


def plain() -> Iterator[int]:
    with enter(UA):
        yield 1


async def asynchronous() -> AsyncIterator[int]:
    with enter(UA):
        yield 1


async def by_a_manager() -> AsyncIterator[int]:
    with managed():
        yield 1


async def by_an_asynchronous_manager() -> AsyncIterator[int]:
    async with asynchronously_managed():
        yield 1


def by_a_stack() -> Iterator[int]:
    with ExitStack() as stack:
        stack.enter_context(managed())
        yield 1


async def by_an_asynchronous_stack() -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        stack.enter_context(enter(UA))
        yield 1


async def by_an_object() -> AsyncIterator[int]:
    with Managed():
        yield 1


async def with_a_database() -> AsyncIterator[int]:
    with use_database(Database()):
        yield 1


async def with_a_directory() -> AsyncIterator[int]:
    with use_directory(InMemoryDirectory()):
        yield 1


async def with_a_record() -> AsyncIterator[int]:
    with use_tenant_record(make_tenant("ua")):
        yield 1


def with_an_event() -> Iterator[int]:
    with use_event_ids(["1"]):
        yield 1


@contextmanager
def managed() -> Iterator[None]:
    with enter(UA):
        yield


@contextmanager
def managed_and_left() -> Iterator[None]:
    with managed():
        yield
    with enter(DL):  # after its last yield
        assert current_tenant() == "dl"


@asynccontextmanager
async def asynchronously_managed() -> AsyncIterator[None]:
    with managed():
        yield


class Managed:
    def __enter__(self) -> None:
        self.entered = enter(UA)
        self.entered.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.entered.__exit__(*error)


BARE: list[Callable[[], Iterator[int] | AsyncIterator[int]]] = [
    plain,
    asynchronous,
    by_a_manager,
    by_an_asynchronous_manager,
    by_a_stack,
    by_an_asynchronous_stack,
    by_an_object,
    with_a_database,
    with_a_directory,
    with_a_record,
    with_an_event,
]


@pytest.mark.parametrize("generator", BARE)
@pytest.mark.parametrize("around", [None, DL])
async def test_a_generator_that_is_no_context_manager_begins_no_block(
    generator: Callable[[], Any], around: Scope | None
) -> None:
    with ExitStack() as stack:
        if around is not None:
            stack.enter_context(enter(around))
        with pytest.raises(ScopeMissing, match=f"the generator {generator.__name__}"):
            await first_of(generator())
        assert current_scope() == around


async def first_of(items: Any) -> None:
    if isinstance(items, AsyncIterator):
        async for _ in items:
            break
    else:
        for _ in items:
            break


async def test_a_context_manager_made_of_a_generator_does() -> None:
    with managed_and_left():
        assert current_tenant() == "ua"
    async with asynchronously_managed():
        assert current_tenant() == "ua"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asynchronously_managed())
        stack.enter_context(managed())
        assert current_tenant() == "ua"
    with Managed():
        assert current_tenant() == "ua"
    assert current_scope() is None


async def failing() -> None:
    """Ends the wait for it with an error, as a statement that fails or a time that is up."""
    answer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.set_exception, LookupError())
    await answer


async def after_a_failure() -> AsyncIterator[int]:
    with suppress(LookupError):
        await failing()
    with use_database(Database()), enter(UA):
        yield 1


async def test_a_context_manager_enters_a_scope_after_what_it_awaited_has_failed() -> None:
    made = asynccontextmanager(after_a_failure)
    async with made():
        assert current_tenant() == "ua"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(made())
        assert current_tenant() == "ua"
    assert current_scope() is None


async def test_a_generator_that_is_no_context_manager_does_not_after_a_failure_either() -> None:
    with pytest.raises(ScopeMissing, match="the generator after_a_failure"):
        await first_of(after_a_failure())
    assert current_scope() is None


async def test_a_generator_may_work_in_a_scope_between_two_items() -> None:
    def name(scope: TenantScope) -> str:
        with enter(scope):
            return current_tenant()

    async def names() -> AsyncGenerator[str, None]:
        yield name(UA)
        yield name(DL)

    async with contextlib.aclosing(names()) as each:
        async for one in each:
            assert one == "ua"
            break
    assert current_scope() is None


@pytest.fixture
def entered() -> Iterator[None]:
    with enter(UA):
        yield


@pytest.fixture
async def entered_asynchronously() -> AsyncIterator[None]:
    async with asynchronously_managed():
        yield


@pytest.mark.usefixtures("entered")
def test_a_fixture_enters_a_scope() -> None:
    assert current_tenant() == "ua"


@pytest.mark.usefixtures("entered_asynchronously")
async def test_an_asynchronous_fixture_enters_a_scope() -> None:
    assert current_tenant() == "ua"


# The rest of what a block sets


RECORD, DIRECTORY = make_tenant("ua"), InMemoryDirectory()
GIVEN: list[tuple[Callable[[], Any], Use]] = [
    (lambda: use_tenant_record(RECORD), current_tenant_record),
    (lambda: use_directory(DIRECTORY), current_directory),
    (lambda: use_event_ids(["1"]), current_event_id),
]


@pytest.mark.parametrize(("give", "use"), GIVEN)
@pytest.mark.parametrize("later", WAYS)
async def test_what_a_block_gives_is_refused_behind_its_end(
    give: Callable[[], Any], use: Use, later: Later
) -> None:
    with give():
        assert await later(use)() is not None
        happen = later(use)
    with pytest.raises(ScopeMissing, match="belongs to a block that has ended"):
        await happen()


async def test_the_database_is_the_processes_and_not_a_blocks() -> None:
    database = Database()
    with use_database(database):
        happen = by_a_task(current_database)
    assert await happen() is database


def test_a_block_is_entered_once() -> None:
    block = enter(UA)
    with block:
        pass
    with pytest.raises(RuntimeError, match="Create a new one"), block:
        pass
    assert current_scope() is None


# The library's own entries


def test_only_where_a_hop_begins_and_where_a_tenant_is_looked_up_is_a_scope_passed_over() -> None:
    root = Path(__file__).parents[3]
    users = {
        str(path.relative_to(root))
        for path in root.glob("[a-z]*/**/*.py")
        if path.relative_to(root).parts[0] != "tests"
        if re.search(r"(?<![.\w])(_outside|_begin|outside_own_scope)\(", path.read_text())
    }
    assert users == {
        "temporal_tenancy/core/scope.py",
        "temporal_tenancy/sdk/interceptors/_activity_inbound.py",
        "temporal_tenancy/sdk/interceptors/_workflow_inbound.py",
        "temporal_tenancy/core/directory.py",
        "temporal_tenancy/sdk/search_attributes.py",
        "temporal_tenancy/control_plane/directory.py",
        "temporal_tenancy/postgres/_shared_only.py",
        "temporal_tenancy/postgres/control_session.py",
        "temporal_tenancy/postgres/sql_directory.py",
        "temporal_tenancy/deployments/_released_versions.py",
        "temporal_tenancy/fastapi/_installing.py",
        "temporal_tenancy/stores/_directory.py",
    }
