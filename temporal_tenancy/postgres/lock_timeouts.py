"""How long a statement waits for what another transaction has locked, and then fails."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from temporal_tenancy.postgres.session_limits import SessionLimits

LOCK_TIMEOUT: Final = timedelta(seconds=1)  # of the platform, on rows that a tenant may lock
BRIEF: Final = SessionLimits(lock=LOCK_TIMEOUT)  # of a tenant's session that the platform opens
SESSION_LOCK_TIMEOUT: Final = "lock_timeout"  # the key in Session.info

# Until the end of the transaction: no connection takes it back to the pool.
_SET: Final = text("select set_config('lock_timeout', :milliseconds, true)")


class PlatformSession(Session):
    """The session inside `platform_session()`: it waits for no lock for long."""


@event.listens_for(PlatformSession, "after_begin")
def _set_at_begin(
    session: PlatformSession, transaction: SessionTransaction, connection: Connection
) -> None:
    if not transaction.nested:
        set_lock_timeout(connection, session.info[SESSION_LOCK_TIMEOUT])


def set_lock_timeout(connection: Connection, at_most: timedelta) -> None:
    """Lets each statement of the transaction wait for a lock for so long."""
    connection.execute(_SET, _as_parameters(at_most))


async def wait_for_locks(session: AsyncSession, at_most: timedelta) -> None:
    """Lets what follows in the transaction wait for so long: for locks that no tenant can take."""
    await session.execute(_SET, _as_parameters(at_most))


def milliseconds(at_most: timedelta) -> str:
    """As the server takes it: 1 at least, since 0 would be for ever."""
    return str(max(1, round(at_most.total_seconds() * 1000)))


def _as_parameters(at_most: timedelta) -> dict[str, str]:
    return {"milliseconds": milliseconds(at_most)}
