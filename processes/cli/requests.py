"""What the commands for a tenant's requests share: the tenant's session, ids and lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.paging import PAGE_ROWS_MAX, Listing
from temporal_tenancy import (
    Database,
    TenantOffboarding,
    TenantOwned,
    TenantStatus,
    registry,
    tenant_id,
    tenant_session,
)
from temporal_tenancy.cli import Answer, control_plane, known_tenant, say, table
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.core import require_startable
from temporal_tenancy.postgres import acting_for

Model = TypeVar("Model", bound=TenantOwned)


@asynccontextmanager
async def tenants_view(tenant: str) -> AsyncIterator[AsyncSession]:
    """Opens a session of an existing tenant; asks the database alone. Raises `TenantUnknown`."""
    async with control_plane() as database:
        with acting_for(await known_tenant(database, tenant), database):
            async with tenant_session() as session:
                yield session


@asynccontextmanager
async def tenants_settings(tenant: str) -> AsyncIterator[AsyncSession]:
    """Opens a session of a tenant that stays, to change what it has set up.

    Raises:
        TenantUnknown: there is no such tenant.
        TenantOffboarding: it is being offboarded, or is deleted.
    """
    async with control_plane() as database:
        found = await known_tenant(database, tenant)
        if found.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
            raise TenantOffboarding(f"{found.id} is {found.status}, and is set up no more.")
        with acting_for(found, database):
            async with tenant_session() as session:
                yield session


@asynccontextmanager
async def tenants_request(database: Database, tenant: str, job: str) -> AsyncIterator[AsyncSession]:
    """Opens a session of a tenant that may start `job`, to request it in the same transaction.

    Raises:
        TenancyError: there is no such tenant, or it may not run the job.
    """
    owner = tenant_id(tenant)
    found = await ControlPlaneDirectory(database).find(owner)
    with acting_for(require_startable(owner, found, registry.get_or_raise(job)), database):
        async with tenant_session() as session:
            yield session


def parsed_id(text: str, what: str) -> UUID:
    """Parses the id of a request; raises `typer.BadParameter`, which says whose id it is."""
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"the id of {what} is a UUID.", param_hint="ID") from None


async def listed(
    tenant: str,
    listing: Listing[Model],
    limit: int,
    *,
    columns: Mapping[str, Callable[[Model], object]],
    document: Callable[[str, Model], dict[str, Any]],
) -> Answer:
    """Lists a tenant's rows; asks the database alone. Raises `TenantUnknown`.

    Args:
        tenant: the tenant's id.
        listing: the rows, and their order.
        limit: the most rows.
        columns: by title, what the table shows of a row.
        document: returns the JSON of a row of the tenant.
    """
    async with tenants_view(tenant) as session:
        found = await newest(session, listing, limit + 1)
    if len(found) > limit:
        say(f"These are the newest {limit:,}; there are more. --limit shows more.")
        found = found[:limit]
    rows = [[shown(row) for shown in columns.values()] for row in found]
    return Answer(
        [document(tenant, row) for row in found],
        table(tuple(columns), rows, empty=f"{tenant} has no {listing.name}."),
    )


async def newest(session: AsyncSession, listing: Listing[Model], limit: int) -> Sequence[Model]:
    """Returns the first rows of a list, `limit` at most, read page by page."""
    rows: list[Model] = []
    after: str | None = None
    while len(rows) < limit:
        size = min(limit - len(rows), PAGE_ROWS_MAX)
        page = await listing.page(session, after=after, limit=size)
        rows += page.rows
        if page.next is None:
            break
        after = page.next
    return rows
