"""The outbox of a tenant in a database of its own, as a relay reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import StoreMismatch
from temporal_tenancy.outbox.relay._server_settings import SERVER_SETTINGS
from temporal_tenancy.outbox.tables import (
    IS_COMPLETED,
    IS_PROCESSING,
    IS_WAITING,
    MessageStatus,
)
from temporal_tenancy.postgres.control_session import SESSION_CONTROL
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, store_unreachable
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, Installation
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.errors import ConnectionSecretMissing

APPLICATION_NAME: Final = "temporal-tenancy relay (stores)"  # in `pg_stat_activity`
CONNECT_TIMEOUT: Final = 3  # seconds; a store that is away is tried again later
# Seconds for one transaction; the server's own limits are shorter, if it answers.
PATIENCE: Final = 5.0
COUNTED: Final = 1_000  # messages that a look counts

_IDENTITY: Final = text(f"select store, tenant_id from {PUBLIC}.{IDENTITY} limit 2")
# Only what is due of each priority says whether a claim would find something: what the count sees
# may all be later.
_LOOK: Final = library_text(f"""
    select
        exists (
            select from generate_series(1, 5) as level
            cross join lateral (
                select from tenancy.outbox_messages
                where tenant_id = :tenant and priority = level
                    and {IS_WAITING} and scheduled_at <= now()
                limit 1
            ) as next
        ) as is_due,
        exists (
            select from tenancy.outbox_messages where {IS_PROCESSING} and lease_until < now()
        ) as is_lost,
        exists (
            select from tenancy.outbox_messages
            where {IS_COMPLETED} and completed_at < now() - cast(:keep as interval)
        ) as is_old,
        (
            select count(*) from (
                select from tenancy.outbox_messages where {IS_PROCESSING} limit {COUNTED}
            ) as counted
        ) as processing,
        waiting.*
    from (
        select
            count(*) filter (where is_due and status = '{MessageStatus.PENDING}') as due,
            count(*) filter (where not is_due and status = '{MessageStatus.PENDING}') as later,
            count(*) filter (where status = '{MessageStatus.FAILED}') as retry,
            cast(extract(epoch from now() - min(scheduled_at) filter (
                where is_due and isfinite(scheduled_at))) as float8) as due_for
        from (
            select status, scheduled_at, scheduled_at <= now() as is_due
            from tenancy.outbox_messages
            where tenant_id = :tenant and {IS_WAITING}
            order by tenant_id, priority, scheduled_at
            limit {COUNTED}
        ) as first
    ) as waiting
""")


_STORES: Final = library_text("""
    select stores.name, tenants.id as tenant_id, stores.secret
    from tenancy.stores as stores
    join tenancy.tenants as tenants on tenants.store = stores.name
    where stores.isolation = 'database'
    order by stores.name
""")


@dataclass(frozen=True)
class StoreOfTenant:
    """A store that has an outbox of its own."""

    name: str
    tenant_id: str
    secret: str  # the name of its connections in the secret store


async def stores_with_outboxes(session: AsyncSession) -> Sequence[StoreOfTenant]:
    """Returns the databases of tenants, by name; `session` is the platform's or the relay's."""
    return [StoreOfTenant(**row._mapping) for row in await session.execute(_STORES)]


class Messages(Protocol):
    """A database with messages, as the relay's role: the shared one, or a store's."""

    def platform_session(
        self,
        reason: str,
        *,
        lock_timeout: timedelta | None = None,
        statement_timeout: timedelta | None = None,
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Opens a session, as `Database.platform_session`."""


@dataclass(frozen=True)
class Look:
    """What a look at a store's outbox has found; of many messages it counts the first."""

    is_due: bool = False  # whether a claim would find messages
    is_lost: bool = False  # whether the lease of one has expired
    is_old: bool = False  # whether one was completed longer ago than it is kept
    processing: int = 0  # messages
    due: int = 0  # messages
    later: int = 0  # messages
    retry: int = 0  # messages that wait for another attempt
    due_for: float | None = None  # seconds; of the one that is due for longest


@dataclass(frozen=True)
class StoreOutbox:
    """A store's outbox. Its sessions first compare whose store it is with whose it should be."""

    name: str  # the store's
    tenant_id: str
    database: Database  # the store's, as the relay's role
    control: Database  # with the control plane

    @asynccontextmanager
    async def platform_session(
        self,
        reason: str,
        *,
        lock_timeout: timedelta | None = None,
        statement_timeout: timedelta | None = None,
    ) -> AsyncIterator[AsyncSession]:
        """Opens a session in the store, which knows where the control plane is.

        A server that stops answering fails it after `PATIENCE`.

        Raises:
            StoreMismatch: what is there is another store, or another tenant's.
            DatabaseUnreachable: the server does not answer.
        """
        watch = asyncio.get_running_loop().call_later(PATIENCE, self.database.cut)
        try:
            async with self.database.platform_session(
                reason, lock_timeout=lock_timeout, statement_timeout=statement_timeout
            ) as session:
                await self._require_own(session)
                session.info[SESSION_CONTROL] = self.control
                yield session
        finally:
            watch.cancel()

    async def look(self, *, keep: timedelta) -> Look:
        """Looks what there is to do; `keep` is how long a completed message is kept."""
        async with self.platform_session("look at a store's outbox") as session:
            values = {"tenant": self.tenant_id, "keep": keep}
            return Look(**(await session.execute(_LOOK, values)).one()._mapping)

    async def _require_own(self, session: AsyncSession) -> None:
        try:
            found = [tuple(row) for row in await session.execute(_IDENTITY)]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in ("42P01", "42501"):
                raise StoreMismatch(
                    f'what is at the place of the store "{self.name}" does not say which store it '
                    "is. Prepare the store again, or correct its connection."
                ) from error
            raise
        if found != [(self.name, self.tenant_id)]:
            raise StoreMismatch(
                f'what is at the place of the store "{self.name}" of tenant {self.tenant_id} says '
                "that it is another store, or another tenant's. Nothing of it was read or "
                "written. Correct the connection that the secret store has for it."
            )


def store_outbox_database(
    url: str, installation: Installation | None = None, *, connections: int = 1
) -> Database:
    """Returns a store's database as the relay's role, which gives up early; does not connect.

    Args:
        url: of the store, for the relay's role.
        installation: as for `Database`.
        connections: how many it opens at most.

    Raises:
        ConfigurationError: `url` is not a PostgreSQL URL.
    """
    parsed = database_url(hidden(url))
    if "connect_timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT)})
    return Database(
        platform_url=hidden(parsed.render_as_string(hide_password=False)),
        platform_pool_size=connections,
        application_name=APPLICATION_NAME,
        platform_settings=SERVER_SETTINGS,
        installation=installation,
    )


_REFUSED: Final = ("authentication failed", "no password supplied")  # as the server says it


def why_away(name: str, error: BaseException) -> str:
    """Returns why a store's outbox cannot be reached: a sentence with nothing of its URL."""
    if isinstance(error, StoreMismatch | ConnectionSecretMissing):
        return str(error)
    why = "does not answer the relay"
    if any(words in str(error) for words in _REFUSED):
        why = "refuses the password or the role of the relay's URL"
    elif not isinstance(error, DatabaseUnreachable | OperationalError):
        why = f"cannot be used by the relay ({type(error).__name__})"
    return str(store_unreachable(name, why))
