"""Puts tenancy into a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from temporal_tenancy.core.directory import Tenant, use_tenant_record
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, _outside, current_scope, current_tenant, enter
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.fastapi._answers import add_answers
from temporal_tenancy.postgres.database import Database, closing_sessions, use_database

Dependency = Callable[..., AsyncIterator[str | None]]


@spelled
def install_tenancy(
    application: FastAPI,
    *,
    database: Database,
    tenant_of: Callable[..., Any],  # any dependency of FastAPI, sync or async
    every_route: bool = True,
) -> Dependency:
    """Runs the requests of an application in their tenants' scopes; call it before the routes.

    The scope lasts until the response is sent: streamed bodies and background tasks are in it.
    `tenant_session()` opens on `database`, also if a scope with another one was open before the
    request. It is closed when the application shuts down. The
    library's refusals are answered as `{"error": {"type", "message"}}` with 403, 404, 409, 413, 422
    or 503.

    Args:
        application: the application.
        database: where the requests' sessions open; needs a `tenant_url`.
        tenant_of: a dependency that authenticates: it returns the tenant's id, its `Tenant` record
            (then `current_tenant_record()` returns it), or None for a request without a tenant. It
            raises `HTTPException(401)` for one that may not come in. Tests override it.
        every_route: whether all routes of the application have it, except mounted applications.
            False: those that depend on what this returns, such as a router's
            `dependencies=[Depends(...)]`.

    Returns:
        The dependency that enters the tenant; its value is the tenant's id, or None.

    Raises:
        ConfigurationError: `database` has no `tenant_url`, or with `every_route` there are routes
            already, which would have no tenant.
    """
    database.tenant_engine  # noqa: B018  # raises without a URL

    async def entered(found: Any = Depends(tenant_of)) -> AsyncIterator[str | None]:  # noqa: B008
        if found is None:
            with _outside():  # also if the server, or an application around this one, is in a scope
                yield None
            return
        with ExitStack() as stack:
            if not _is_entered(application, tenant_of):
                stack.enter_context(use_database(database))
            stack.enter_context(enter(_scope_of(found)))
            if isinstance(found, Tenant):
                stack.enter_context(use_tenant_record(found))
            async with closing_sessions():
                yield current_tenant()

    if every_route:
        _refuse_routes(application)
        application.router.dependencies.append(Depends(entered))
    add_answers(application)
    _dispose_at_the_end(application, database)
    return entered


def _is_entered(application: FastAPI, tenant_of: Callable[..., Any]) -> bool:
    """Whether a test's override of `tenant_of` has entered the tenant, on a database of its own."""
    return tenant_of in application.dependency_overrides and isinstance(
        current_scope(), TenantScope
    )


def _scope_of(found: object) -> TenantScope:
    if isinstance(found, Tenant):
        return TenantScope(found.id)
    if isinstance(found, bool) or not isinstance(found, str | UUID | int):
        raise ConfigurationError(
            f"tenant_of returned a {type(found).__name__}. Return the tenant's id as text, UUID or "
            "whole number, or its Tenant; None where the request has no tenant."
        )
    return TenantScope(str(found))


def _refuse_routes(application: FastAPI) -> None:
    for route in application.routes:
        if isinstance(route, APIRoute | APIWebSocketRoute):
            raise ConfigurationError(
                f"the route {route.path} is there already, and would have no tenant. Call "
                "install_tenancy() right after FastAPI(), or with every_route=False."
            )


def _dispose_at_the_end(application: FastAPI, database: Database) -> None:
    inner = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:  # the application's own state
        async with inner(started) as state:
            try:
                yield state
            finally:
                await database.dispose()

    application.router.lifespan_context = lifespan
