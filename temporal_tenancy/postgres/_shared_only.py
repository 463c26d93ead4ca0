"""What a process that knows of no stores asks, so that it never works for a tenant that has one.

In a tenant's job the record of the tenant says it. Other code, such as a command or a script, has
only entered a scope, and the tenant's role may not read the control plane. So the platform does,
where the process has its URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Final

import psycopg
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.directory import (
    STATE_CACHE_SECONDS,
    STATE_CACHE_TENANTS,
    placed_record_of_this_activity,
)
from temporal_tenancy.core.errors import StoreUnsupported
from temporal_tenancy.core.scope import _outside
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.library_text import library_text

_STORE: Final = library_text("select store from tenancy.tenants where id = :tenant")

# SQLSTATEs of a database that has no stores: the library's tables are older or not there, or are
# not those of this role.
_NO_STORES: Final = ("42P01", "42703", "3F000", "42501")

PlatformSession = Callable[[str], AbstractAsyncContextManager[AsyncSession]]


class SharedOnly:
    """Refuses tenants whose rows are not in the shared tables."""

    def __init__(self, platform_session: PlatformSession | None) -> None:
        """
        Args:
            platform_session: opens a session on the control plane, for a reason; None: the process
                has none, so only a record can say where a tenant's rows are.
        """
        self._platform_session = platform_session
        self._shared: dict[str, float] = {}  # when the control plane said so, by tenant

    async def require(self, tenant: str) -> None:
        """Raises `StoreUnsupported` if the tenant has a store of its own.

        An answer may be 5 s old. A tenant that the control plane does not have is in the shared
        tables: its application has a directory of its own.

        Raises:
            StoreUnsupported: nothing was sent to the tenants' tables.
            DatabaseUnreachable: the control plane does not answer.
        """
        record = placed_record_of_this_activity(tenant)
        if record is not None:
            if record.isolation is not Isolation.SHARED:
                raise _unsupported(tenant, record.store)
            return
        if self._platform_session is None:
            return
        asked = self._shared.get(tenant)
        now = monotonic()
        if asked is not None and now - asked < STATE_CACHE_SECONDS:
            return
        with _outside():  # the platform asks, and not the tenant
            question = asyncio.create_task(self._ask(self._platform_session, tenant))
        store = await question
        if store is not None:
            raise _unsupported(tenant, store)
        if len(self._shared) >= STATE_CACHE_TENANTS:
            self._shared.clear()
        self._shared[tenant] = now

    async def _ask(self, platform_session: PlatformSession, tenant: str) -> str | None:
        try:
            async with platform_session("look up a tenant's store") as session:
                store: str | None = await session.scalar(_STORE, {"tenant": tenant})
        except ProgrammingError as error:
            if isinstance(error.orig, psycopg.Error) and error.orig.sqlstate in _NO_STORES:
                return None
            raise
        return store


def _unsupported(tenant: str, store: str | None) -> StoreUnsupported:
    return StoreUnsupported(
        f'the rows of tenant {tenant} are in the store "{store}", and this process knows the '
        "shared tables alone. Give its Database stores=lambda made: ControlPlaneStores(made, …)."
    )
