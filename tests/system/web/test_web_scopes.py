"""A request's scope is open until its answer is sent, and closed for what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import text

from processes.web.app import create_app
from processes.web.callers import Authenticated
from processes.web.door import Door
from temporal_tenancy.core.directory import current_tenant_record
from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.scope import TenantScope, current_scope, current_tenant, enter
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.log_lines import LogLines
from tests.fixtures.web import Web
from tests.library.postgres.test_carried_sessions import DAY, days_of, usage

WHO = text("select current_setting('app.tenant_id')")

Call = Callable[[str, str], Awaitable[httpx.Response]]


class Left:
    """What requests leave behind."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.tasks: list[asyncio.Task[object]] = []
        self.asked: asyncio.Queue[asyncio.Future[object]] = asyncio.Queue()
        self.seen: list[str] = []


async def write() -> None:
    async with tenant_session() as session:
        session.add(usage())


async def within_another(caller: Authenticated) -> AsyncIterator[str]:
    with enter(TenantScope("globex")):
        yield current_tenant()


@pytest.fixture
def left() -> Left:
    return Left()


@pytest.fixture
def app(door: Door, left: Left) -> FastAPI:
    """The API's application, with badly written routes."""
    app = create_app(door)

    @app.get("/task")
    async def leave_a_task(caller: Authenticated) -> str:
        async def work() -> None:
            await left.released.wait()
            await write()

        left.tasks.append(asyncio.create_task(work()))
        return current_tenant()

    @app.get("/consumer")
    async def ask_a_consumer(caller: Authenticated) -> object:
        async def consume() -> None:
            while True:
                answer = await left.asked.get()
                try:
                    async with tenant_session() as session:
                        answer.set_result(await session.scalar(WHO))
                except Exception as error:
                    answer.set_exception(error)

        if not left.tasks:  # the first caller starts it
            left.tasks.append(asyncio.create_task(consume()))
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        left.asked.put_nowait(answer)
        return await answer

    @app.get("/background")
    async def work_in_the_background(caller: Authenticated, tasks: BackgroundTasks) -> None:
        tasks.add_task(write)

    @app.get("/stream")
    async def stream(caller: Authenticated) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for _ in range(3):
                await write_and_forget()
                yield f"{current_tenant()} {current_tenant_record().id};"

        return StreamingResponse(pieces())

    @app.get("/threaded")
    def in_a_thread(caller: Authenticated) -> str:
        return current_tenant()

    def entered() -> Iterator[None]:
        with enter(TenantScope("globex")):
            yield

    @app.get("/dependency", dependencies=[Depends(entered)])
    async def behind_a_threaded_dependency() -> str:
        return str(current_scope())

    @app.get("/another")
    async def in_anothers(tenant: Annotated[str, Depends(within_another)]) -> str:
        return tenant

    return app


async def write_and_forget() -> None:
    async with tenant_session() as session:
        session.add(usage())
        await session.flush()
        await session.rollback()


@pytest.fixture
async def call(app: FastAPI, web: Web, left: Left) -> AsyncIterator[Call]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door.example") as client:

        async def get(path: str, tenant: str) -> httpx.Response:
            bearer = {"Authorization": f"Bearer {web.keys[tenant]}"}
            return await client.get(path, headers=bearer)

        yield get
    for task in left.tasks:
        task.cancel()


async def test_a_task_that_a_request_leaves_is_refused_behind_its_answer(
    call: Call, web: Web, left: Left, log_lines: LogLines
) -> None:
    assert (await call("/task", "acme")).json() == "acme"
    left.released.set()
    with web.acting_for("globex"), pytest.raises(ScopeMissing, match="request"):
        await left.tasks[0]
    for tenant in ("acme", "globex"):
        assert await days_of(web.door.database, tenant) == []
    assert log_lines.one("scope.used_after_close")["tenant_id"] == "acme"


async def test_a_consumer_that_one_tenants_request_began_does_nothing_for_anothers(
    call: Call,
) -> None:
    first, second = await call("/consumer", "acme"), await call("/consumer", "globex")
    assert (first.status_code, first.json()) == (200, "acme")
    assert second.status_code == 500


async def test_what_a_request_has_done_in_the_background_is_its_tenants(
    call: Call, web: Web
) -> None:
    assert (await call("/background", "acme")).status_code == 200
    assert await days_of(web.door.database, "acme") == [DAY]


async def test_a_stream_has_its_tenant_until_it_has_ended(call: Call) -> None:
    assert (await call("/stream", "acme")).text == "acme acme;" * 3


async def test_a_route_in_a_thread_has_its_tenant(call: Call) -> None:
    assert (await call("/threaded", "acme")).json() == "acme"


async def test_a_scope_that_a_dependency_enters_in_a_thread_stays_there(call: Call) -> None:
    assert (await call("/dependency", "acme")).json() == "None"


async def test_no_request_is_led_into_another_tenants_scope(call: Call) -> None:
    answer = await call("/another", "acme")
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "TenantMismatch"
