"""How long statements wait for another transaction's locks before they fail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, TextClause, event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

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
        numbered = list(enumerate(settings.items()))
        connection.execute(
            _set_all(len(settings)),
            {f"name_{number}": name for number, (name, _) in numbered}
            | {f"value_{number}": value for number, (_, value) in numbered}
            | _as_parameters(session.info[SESSION_LOCK_TIMEOUT]),
        )


@lru_cache
def _set_all(settings: int) -> TextClause:
    """Returns the first statement of a transaction: as many settings, and the timeout."""
    calls = [f"set_config(:name_{number}, :value_{number}, true), " for number in range(settings)]
    return text(_SET.text.replace("select ", f"select {''.join(calls)}", 1))


async def wait_for_locks(session: AsyncSession, at_most: timedelta) -> None:
    """Lets the rest of the transaction wait longer for locks; only for locks no tenant can take."""
    await session.execute(_SET, _as_parameters(at_most))


def milliseconds(at_most: timedelta) -> str:
    """Returns a timeout in milliseconds, as the server reads it; at least 1, as 0 is no limit."""
    return str(max(1, round(at_most.total_seconds() * 1000)))


def _as_parameters(at_most: timedelta) -> dict[str, str]:
    return {"milliseconds": milliseconds(at_most)}
