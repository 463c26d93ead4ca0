"""install_tenancy(): the tenant of each request, its session, and the answers to refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import InvalidRequestError
from starlette.requests import ClientDisconnect

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import (
    ConfigurationError,
    Database,
    ScopeMissing,
    TenantScope,
    TenantSuspended,
    current_tenant,
    current_tenant_record,
    enter,
    tenant_session,
)
from temporal_tenancy.core.scope import current_scope
from temporal_tenancy.fastapi import TenantSession, install_tenancy
from temporal_tenancy.fastapi._answers import BUSY, STATUSES
from temporal_tenancy.postgres.database import use_database
from temporal_tenancy.testing import acting_as, make_tenant
from tests.fixtures.cancelling import cancelled_after
from tests.fixtures.tables.models import Effect, InvoiceLine


async def tenant_of(tenant: Annotated[str, Header()] = "") -> str | None:
    """The tenant that the request names."""
    if tenant == "nobody":
        raise HTTPException(401)
    return tenant or None


def made(database: Database, **options: Any) -> FastAPI:
    application = FastAPI()
    install_tenancy(application, database=database, tenant_of=tenant_of, **options)
    return application


def client_of(application: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://application")


async def ask(
    application: FastAPI, path: str, tenant: str = "acme", method: str = "GET"
) -> httpx.Response:
    async with client_of(application) as client:
        return await client.request(method, path, headers={"tenant": tenant} if tenant else {})


async def effects(database: Database, tenant: str) -> int:
    counting = made(database)

    @counting.get("/count")
    async def count(session: TenantSession) -> int:
        return await session.scalar(select(func.count()).select_from(Effect)) or 0

    return int((await ask(counting, "/count", tenant)).text)


async def test_each_request_has_its_tenants_session(database: Database) -> None:
    application = made(database)

    @application.post("/effects")
    async def add(session: TenantSession) -> str:
        session.add(Effect(subject="a", note="b"))
        return current_tenant()

    names = [f"t{number}" for number in range(6)]
    answers = await asyncio.gather(*(ask(application, "/effects", n, "POST") for n in names))
    assert [answer.json() for answer in answers] == names
    assert await effects(database, "t1") == 1
    assert await effects(database, "t9") == 0
    assert current_scope() is None


async def test_the_session_has_committed_before_the_response(database: Database) -> None:
    application = made(database)

    @application.post("/effects")
    async def add(session: TenantSession, tasks: BackgroundTasks) -> None:
        session.add(Effect(subject="a", note="b"))
        tasks.add_task(look)

    seen: list[int | None] = []

    async def look() -> None:
        async with tenant_session() as session:
            seen.append(await session.scalar(select(func.count()).select_from(Effect)))

    await ask(application, "/effects", method="POST")
    assert seen == [1]


async def test_a_failed_commit_is_no_success(database: Database) -> None:
    application = made(database)

    @application.post("/effects")
    async def add(session: TenantSession) -> None:
        session.add(Effect(subject="a", note="b"))
        session.add(InvoiceLine(period="2013-04", rate="r", amount_cents=1))  # of no invoice

    assert (await ask(application, "/effects", method="POST")).status_code == 500
    assert await effects(database, "acme") == 0


async def test_an_endpoint_that_raises_leaves_nothing(database: Database) -> None:
    application = made(database)

    @application.post("/effects")
    async def add(session: TenantSession) -> None:
        session.add(Effect(subject="a", note="b"))
        await session.flush()
        raise HTTPException(402)

    assert (await ask(application, "/effects", method="POST")).status_code == 402
    assert await effects(database, "acme") == 0


async def test_sync_endpoints_streams_and_tasks_are_in_the_scope(database: Database) -> None:
    application = made(database)
    later: list[str] = []

    @application.get("/sync")
    def sync(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: later.append(current_tenant()))
        return current_tenant()

    @application.get("/stream")
    async def stream() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with tenant_session() as session:
                yield str(await session.scalar(text("select current_setting('app.tenant_id')")))
            yield f" {current_tenant()}"

        return StreamingResponse(rows())

    assert (await ask(application, "/sync")).json() == "acme"
    assert later == ["acme"]
    assert (await ask(application, "/stream")).text == "acme acme"
    assert current_scope() is None


async def test_a_stream_cannot_use_the_endpoints_session(database: Database) -> None:
    application = made(database)
    said: list[Exception] = []

    @application.get("/stream")
    async def stream(session: TenantSession) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            try:
                yield str(await session.scalar(select(func.count()).select_from(Effect)))
            except Exception as error:
                said.append(error)

        return StreamingResponse(rows())

    await ask(application, "/stream")
    assert [type(error) for error in said] == [InvalidRequestError]


async def test_a_task_that_outlives_the_request_finds_its_scope_closed(database: Database) -> None:
    application = made(database)
    ended, tasks = asyncio.Event(), []

    @application.get("/left-over")
    async def left_over() -> None:
        async def work() -> str:
            await ended.wait()
            return current_tenant()

        tasks.append(asyncio.create_task(work()))

    await ask(application, "/left-over")
    ended.set()
    with pytest.raises(ScopeMissing):
        await tasks[0]


async def test_a_request_may_have_no_tenant_and_may_be_kept_out(database: Database) -> None:
    application = made(database)

    @application.get("/who")
    async def who() -> str:
        return str(current_scope())

    @application.get("/session")
    async def needs_one(session: TenantSession) -> str:
        return "in"

    assert (await ask(application, "/who", "")).json() == "None"
    assert (await ask(application, "/who", "nobody")).status_code == 401
    assert (await ask(application, "/session", "")).status_code == 500
    wrong = await ask(application, "/who", "Not One")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (422, "TenantInvalid")


@pytest.mark.parametrize("found", [False, True, b"acme", object()])
async def test_what_is_no_tenant_enters_none(database: Database, found: object) -> None:
    application = FastAPI()
    install_tenancy(application, database=database, tenant_of=lambda: found)

    @application.get("/who")
    async def who() -> str:
        return current_tenant()

    assert (await ask(application, "/who")).status_code == 500
    transport = httpx.ASGITransport(application)  # raises what the application raises
    async with httpx.AsyncClient(transport=transport, base_url="http://application") as client:
        with pytest.raises(ConfigurationError, match="tenant_of returned a "):
            await client.get("/who")


async def test_a_record_gives_the_request_its_record(database: Database) -> None:
    application = FastAPI()
    install_tenancy(
        application, database=database, tenant_of=lambda: make_tenant("acme", name="Acme Inc.")
    )

    @application.get("/name")
    def name() -> str:
        return current_tenant_record().name

    assert (await ask(application, "/name")).json() == "Acme Inc."


async def test_routes_that_are_there_already_are_refused(database: Database) -> None:
    application = FastAPI()

    @application.get("/early")
    async def early() -> None: ...

    with pytest.raises(ConfigurationError, match="the route /early is there already"):
        install_tenancy(application, database=database, tenant_of=tenant_of)


async def test_only_the_routes_that_ask_for_it_have_a_tenant(database: Database) -> None:
    application = FastAPI()

    @application.get("/health")
    async def health() -> str:
        return str(current_scope())

    tenant = install_tenancy(application, database=database, tenant_of=tenant_of, every_route=False)
    router = APIRouter(dependencies=[Depends(tenant)])

    @router.get("/who")
    async def who() -> str:
        return current_tenant()

    application.include_router(router)
    assert (await ask(application, "/health", "nobody")).json() == "None"
    assert (await ask(application, "/who", "globex")).json() == "globex"


async def test_routers_that_are_included_later_have_a_tenant(database: Database) -> None:
    application, router = made(database), APIRouter()

    @router.get("/who")
    async def who() -> str:
        return current_tenant()

    application.include_router(router)
    assert (await ask(application, "/who")).json() == "acme"


def test_a_database_without_tenants_is_refused(database_urls: DatabaseUrls) -> None:
    platform = Database(platform_url=database_urls.platform)
    with pytest.raises(ConfigurationError, match="no database for tenants"):
        install_tenancy(FastAPI(), database=platform, tenant_of=tenant_of)


@pytest.mark.parametrize("kind", [*STATUSES, *BUSY], ids=lambda kind: kind.__name__)
async def test_refusals_are_answered(
    database: Database, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    application = made(database)

    @application.get("/refused")
    async def refused() -> None:
        raise kind("db.internal:5432 \x1b[31m")

    answer = await ask(application, "/refused")
    assert answer.status_code == STATUSES.get(kind, 503)
    error = answer.json()["error"]
    assert "\x1b" not in error["message"]
    if kind in BUSY:
        assert answer.headers["Retry-After"]
        assert "db.internal" not in answer.text
        [line] = [record for record in caplog.records if record.name.startswith("temporal_tenancy")]
        assert vars(line)["error_type"] == kind.__name__
    else:
        assert error["type"] == kind.__name__


async def test_a_handler_of_the_applications_own_stays(database: Database) -> None:
    application = FastAPI()

    @application.exception_handler(TenantSuspended)
    async def mine(request: object, error: Exception) -> Any:
        return httpx.Response(418)

    install_tenancy(application, database=database, tenant_of=tenant_of)
    assert application.exception_handlers[TenantSuspended] is mine


async def test_a_lifespan_of_ones_own_runs_and_the_database_is_closed(
    database_urls: DatabaseUrls,
) -> None:
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        ran.append("began")
        yield
        ran.append("ended")

    database = Database(tenant_url=database_urls.tenant)
    application = FastAPI(lifespan=lifespan)
    install_tenancy(application, database=database, tenant_of=tenant_of)

    @application.get("/ok")
    async def ok(session: TenantSession) -> int:
        return await session.scalar(text("select 1")) or 0

    async with application.router.lifespan_context(application):
        assert (await ask(application, "/ok")).json() == 1
        pool = database.tenant_engine.pool
    assert database.tenant_engine.pool is not pool
    assert ran == ["began", "ended"]


async def test_tests_override_who_it_is_and_the_database(database: Database) -> None:
    away = Database(tenant_url="postgresql://tenancy_tenant:x@127.0.0.1:1/none")
    application = made(away)

    @application.get("/who")
    async def who(session: TenantSession) -> str:
        one = await session.scalar(text("select 1"))
        return f"{current_tenant_record().id} {one}"

    assert (await ask(application, "/who")).status_code == 503
    application.dependency_overrides[tenant_of] = acting_as("globex", database)
    assert (await ask(application, "/who")).json() == "globex 1"


@pytest.mark.parametrize("record", [False, True])
async def test_a_scope_that_was_open_before_the_request_keeps_no_other_database(
    database: Database, record: bool
) -> None:
    """As an application around this one, or a server that was started in a scope, has it."""
    away = Database(tenant_url="postgresql://tenancy_tenant:x@127.0.0.1:1/none")
    application = FastAPI()
    found = make_tenant("acme") if record else "acme"
    install_tenancy(application, database=database, tenant_of=lambda: found)

    @application.get("/who")
    async def who(session: TenantSession) -> str:
        one = await session.scalar(text("select 1"))
        return f"{current_tenant()} {one}"

    for around in ("acme", "globex"):
        with use_database(away), enter(TenantScope(around)):
            answer = await ask(application, "/who")
        if around == "acme":
            assert answer.json() == "acme 1"
        else:  # code of one tenant cannot become another's
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "TenantMismatch")


async def test_a_request_without_a_tenant_has_none_in_a_scope_that_was_open(
    database: Database,
) -> None:
    application = made(database)

    @application.get("/who")
    async def who() -> str:
        return str(current_scope())

    with enter(TenantScope("acme")):
        assert (await ask(application, "/who", "")).json() == "None"
        assert current_tenant() == "acme"


def cancellable(database: Database) -> FastAPI:
    """An application whose requests may be cancelled."""
    application = made(database)

    @application.get("/session")
    async def with_session(session: TenantSession, tasks: BackgroundTasks) -> int:
        session.add(Effect(subject="a", note="b"))
        await session.flush()
        tasks.add_task(later)
        return await session.scalar(select(func.count()).select_from(Effect)) or 0

    async def later() -> None:
        async with tenant_session() as session:
            await session.scalar(text("select 1"))

    @application.get("/stream")
    async def stream() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with tenant_session() as session:
                session.add(Effect(subject="a", note="b"))
                for _ in range(20):
                    yield f"{await session.scalar(text('select 1'))}\n"

        return StreamingResponse(rows())

    return application


def request_of(path: str, tenant: str = "acme", version: str = "2.3") -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": version},
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"tenant", tenant.encode())],
    }


async def require_nothing_left(database: Database) -> None:
    """Fails if a request has left a scope, or a connection that is checked out."""
    assert current_scope() is None
    pool: Any = database.tenant_engine.pool
    async with asyncio.timeout(5):
        # The loop closes a generator that the server has abandoned.
        while pool.checkedout():  # noqa: ASYNC110  (the pool has no event for it)
            await asyncio.sleep(0.001)
    with use_database(database), enter(TenantScope("globex")):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(Effect)) == 0


@pytest.mark.parametrize("path", ["/session", "/stream"])
@given(steps=st.integers(0, 300), again=st.integers(0, 10))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_request_may_be_cancelled_at_any_step(
    database_urls: DatabaseUrls, path: str, steps: int, again: int
) -> None:
    async def run() -> None:
        database = Database(tenant_url=database_urls.tenant, tenant_pool_size=2)
        application = cancellable(database)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await cancelled_after(application(request_of(path), receive, send), steps, again)
        await require_nothing_left(database)
        await database.dispose()

    asyncio.run(run())


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_a_client_that_goes_away_leaves_nothing(
    database: Database, chunks: int, version: str
) -> None:
    """Servers of the older version say so to `receive`, those of the newer one in `send`."""
    application = cancellable(database)
    gone, sent = asyncio.Event(), 0
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        if message["type"] == "http.response.body":
            sent += 1
        if sent > chunks:
            gone.set()
            if version == "2.4":
                raise OSError("the client has gone")
            await asyncio.sleep(0)

    with suppress(ClientDisconnect):
        await application(request_of("/stream", version=version), receive, send)
    await require_nothing_left(database)
    assert await effects(database, "acme") == 0
