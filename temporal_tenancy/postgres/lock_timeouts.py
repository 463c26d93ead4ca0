"""How long statements wait for another transaction's locks before they fail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final

from psycopg import sql
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from temporal_tenancy.postgres._connection_guard import begin_with
from temporal_tenancy.postgres.session_limits import SessionLimits

LOCK_TIMEOUT: Final = timedelta(seconds=1)  # the platform's, for rows that a tenant can lock
BRIEF: Final = SessionLimits(lock=LOCK_TIMEOUT)  # for tenant sessions that the platform opens
SESSION_LOCK_TIMEOUT: Final = "lock_timeout"  # the keys in Session.info
SESSION_SETTINGS: Final = "settings"

# Local to the transaction, so that no connection takes it back to the pool.
_SET: Final = text("select set_config('lock_timeout', :milliseconds, true)")


class PlatformSession(Session):
    """The session inside `platform_session()`; its statements wait only briefly for locks."""


@event.listens_for(PlatformSession, "after_begin")
def _set_at_begin(
    session: PlatformSession, transaction: SessionTransaction, connection: Connection
) -> None:
    if not transaction.nested:
        settings: Mapping[str, str] = session.info[SESSION_SETTINGS]
        # In the same statement. A connection's own start-up options would do as well, but a pooler
        # takes none, since it gives each transaction another connection of its own.
        timeout = milliseconds(session.info[SESSION_LOCK_TIMEOUT])
        begin_with(connection, _set_all((*settings.items(), ("lock_timeout", timeout))))


@lru_cache
def _set_all(settings: tuple[tuple[str, str], ...]) -> str:
    """Returns the first statement of a transaction, which makes settings by name and value."""
    call = sql.SQL("set_config({}, {}, true)")
    calls = [call.format(name, value) for name, value in settings]
    return sql.SQL("select {}").format(sql.SQL(", ").join(calls)).as_string(None)


async def wait_for_locks(session: AsyncSession, at_most: timedelta) -> None:
    """Lets the rest of the transaction wait longer for locks; only for locks no tenant can take."""
    await session.execute(_SET, _as_parameters(at_most))


def milliseconds(at_most: timedelta) -> str:
    """Returns a timeout in milliseconds, as the server reads it; at least 1, as 0 is no limit."""
    return str(max(1, round(at_most.total_seconds() * 1000)))


def _as_parameters(at_most: timedelta) -> dict[str, str]:
    return {"milliseconds": milliseconds(at_most)}
