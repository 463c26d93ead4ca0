"""The session for the control plane's rows that belong to what another session writes.

The rows of a tenant in a database of its own are there, its messages too. Whether it may run, its
dead letters and its slots are in the control plane, which is then another database. Such a row is
committed before the rest: a crash between the two repeats it, and it is written so that repeating
changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, _outside, current_scope

if TYPE_CHECKING:
    from temporal_tenancy.postgres.database import Database

SESSION_CONTROL: Final = "control"  # the key in Session.info; absent: it is the same database

Open = TypeVar("Open", bound=AsyncSession | AsyncConnection)


def control_of(session: AsyncSession | AsyncConnection) -> Database | None:
    """Returns the database with the control plane; None: it is the session's own."""
    found: Database | None = None
    if isinstance(session, AsyncSession):
        found = session.info.get(SESSION_CONTROL)
    return found


@asynccontextmanager
async def control_session(
    session: Open, reason: str, *, owners: Collection[str]
) -> AsyncIterator[Open | AsyncSession]:
    """Yields `session` where it reaches the control plane, or else a session that does.

    That one is the platform's, and is committed at the end of the block, before `session` is.

    Args:
        session: a tenant's, the platform's or a relay's, which has an open transaction.
        reason: as for `platform_session()`.
        owners: the tenants whose rows the block reads or writes. A tenant's session has one, which
            row-level security holds to its own rows only in the session's own database.

    Raises:
        TenantMismatch: the session is a tenant's, and an owner is another.
        ConfigurationError: the process has no control plane.
    """
    control = control_of(session)
    if control is None:
        yield session
        return
    scope = current_scope()
    if isinstance(scope, TenantScope) and (foreign := sorted({*owners} - {scope.tenant_id})):
        raise TenantMismatch(
            f'a session of tenant "{scope.tenant_id}" may not reach rows of "{foreign[0]}" in the '
            "control plane. Open a tenant_session() in that tenant's scope."
        )
    with _outside():  # the rows are the control plane's, though the code runs for a tenant
        async with control.platform_session(reason) as apart:
            yield apart
