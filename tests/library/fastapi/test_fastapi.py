"""FastAPI: where a scope that a dependency enters reaches, and where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from temporal_tenancy.core.directory import current_tenant_record
from temporal_tenancy.core.errors import ScopeMissing, TenancyError
from temporal_tenancy.core.scope import TenantScope, current_scope, current_tenant, enter
from temporal_tenancy.postgres import acting_for
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.testing import make_tenant
from tests.fixtures.tables.models import Effect


async def tenant(tenant: Annotated[str, Header()]) -> AsyncIterator[str]:
    """Enters the tenant that the request names."""
    with enter(TenantScope(tenant)):
        yield tenant


def tenant_in_a_thread(tenant: Annotated[str, Header()]) -> Iterator[str]:
    """The same as a sync dependency, which FastAPI runs in a thread."""
    with enter(TenantScope(tenant)):
        yield tenant


def seen() -> str:
    """The tenant in whose scope this code runs, or what it raises."""
    try:
        return current_tenant()
    except ScopeMissing as error:
        return error.type or ""


Entered = Annotated[str, Depends(tenant)]


@pytest.fixture
def later() -> list[str]:
    """What code saw that ran after the endpoint."""
    return []


@pytest.fixture
def application(later: list[str]) -> FastAPI:
    application = FastAPI()

    @application.get("/async")
    async def in_the_loop(entered: Entered) -> str:
        await asyncio.sleep(0)
        return seen()

    @application.get("/sync")
    def in_a_thread(entered: Entered) -> str:
        return seen()

    @application.get("/without")
    async def without() -> str:
        return seen()

    @application.get("/sync-dependency")
    async def behind_a_sync_dependency(
        entered: Annotated[str, Depends(tenant_in_a_thread)],
    ) -> str:
        return seen()

    def look(name: str) -> None:
        later.append(f"{name} {seen()}")

    @application.get("/background")
    async def background(entered: Entered, tasks: BackgroundTasks) -> str:
        tasks.add_task(look, "background")
        return seen()

    @application.get("/function-scope")
    async def left_before_the_response(
        entered: Annotated[str, Depends(tenant, scope="function")], tasks: BackgroundTasks
    ) -> str:
        tasks.add_task(look, "background")
        return seen()

    @application.get("/streaming")
    async def streaming(entered: Entered) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            yield seen()

        return StreamingResponse(rows())

    @application.get("/left-over")
    async def left_over(entered: Entered) -> str:
        async def work() -> None:
            await ended.wait()
            look("left over")

        tasks.append(asyncio.create_task(work()))
        return seen()

    @application.get("/failing")
    async def failing(entered: Entered) -> str:
        raise HTTPException(409)

    ended = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    application.state.ended, application.state.tasks = ended, tasks
    return application


def client_of(application: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(application), base_url="http://application"
    )


async def get(application: FastAPI, path: str, tenant: str = "acme") -> str:
    async with client_of(application) as client:
        answer = await client.get(path, headers={"tenant": tenant})
    return answer.text.strip('"')


@pytest.mark.parametrize("path", ["/async", "/sync", "/streaming"])
async def test_an_endpoint_runs_in_the_scope_that_an_async_dependency_enters(
    application: FastAPI, path: str
) -> None:
    tenants = [f"t{number}" for number in range(10)]
    found = await asyncio.gather(*(get(application, path, each) for each in tenants))
    assert found == tenants
    assert current_scope() is None
    assert await get(application, "/without") == "ScopeMissing"


async def test_an_endpoint_behind_a_sync_dependency_has_no_scope(application: FastAPI) -> None:
    assert await get(application, "/sync-dependency") == "ScopeMissing"


async def test_background_tasks_run_before_the_dependency_ends(
    application: FastAPI, later: list[str]
) -> None:
    assert await get(application, "/background") == "acme"
    assert later == ["background acme"]


async def test_after_a_dependency_of_the_function_background_tasks_have_no_scope(
    application: FastAPI, later: list[str]
) -> None:
    assert await get(application, "/function-scope") == "acme"
    assert later == ["background ScopeMissing"]


async def test_a_task_that_outlives_the_request_finds_its_scope_closed(
    application: FastAPI, later: list[str]
) -> None:
    assert await get(application, "/left-over") == "acme"
    application.state.ended.set()
    await asyncio.gather(*application.state.tasks)
    assert later == ["left over ScopeMissing"]


async def test_a_request_that_fails_leaves_the_scope(application: FastAPI) -> None:
    await get(application, "/failing")
    assert await get(application, "/without") == "ScopeMissing"


async def test_middleware_that_runs_the_application_in_a_task_of_its_own_is_fine(
    application: FastAPI,
) -> None:
    async def pass_on(request: Request, call_next: Callable[[Request], Any]) -> Any:
        return await call_next(request)

    application.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    assert await get(application, "/async") == "acme"
    assert await get(application, "/streaming") == "acme"


async def test_websockets_are_fine(application: FastAPI) -> None:
    @application.websocket("/socket")
    async def socket(websocket: WebSocket, entered: Entered) -> None:
        await websocket.accept()
        await websocket.send_text(seen())
        await websocket.close()

    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message.get("text"))

    opened = {
        "type": "websocket",
        "path": "/socket",
        "headers": [(b"tenant", b"acme")],
        "query_string": b"",
        "subprotocols": [],
    }
    await application(opened, receive, send)
    assert sent == [None, "acme", None]


async def test_acting_for_a_tenant_in_a_dependency_opens_sessions_on_its_database(
    database: Database,
) -> None:
    async def acting(tenant: Annotated[str, Header()]) -> AsyncIterator[None]:
        with acting_for(make_tenant(tenant), database):
            yield

    application = FastAPI(dependencies=[Depends(acting)])

    @application.exception_handler(TenancyError)
    async def refuse(request: Request, error: TenancyError) -> JSONResponse:
        return JSONResponse(error.sentence, 403)

    @application.get("/add")
    async def add() -> str:
        async with tenant_session() as session:
            session.add(Effect(subject="a", note="b"))
        return current_tenant_record().id

    assert await get(application, "/add", "acme") == "acme"
    assert (await get(application, "/add", "Not One")).startswith("TenantInvalid: ")
