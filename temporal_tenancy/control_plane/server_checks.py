"""What trying the servers found, kept for those who cannot try them each time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from temporal_tenancy.control_plane.models import ServerCheckRow
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.lock_timeouts import wait_for_locks
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.fairness import HOW_TO_TURN_ON, Fairness

HOLDS_FOR: Final = timedelta(days=1)
TRYING: Final = timedelta(minutes=5)  # that one waits for another who tries the same
LOOK_UP: Final = "look up what was found of the server"
KEEP: Final = "keep what was found of the server"


@dataclass(frozen=True)
class ServerCheck:
    """What was found, and when."""

    holds: bool
    message: str  # one sentence
    checked_at: datetime

    @property
    def age(self) -> timedelta:
        """How long ago it was found."""
        return datetime.now(UTC) - self.checked_at

    @property
    def due_in(self) -> timedelta:
        """When to try again: a day after it was found, or at once."""
        return max(HOLDS_FOR - self.age, timedelta(0))

    @property
    def off_sentence(self) -> str:
        """What to tell a person about fairness that was found to be off."""
        found = self.checked_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return (
            f"FairnessOff: one tenant's backlog holds up all others', as was found at {found}. "
            f"{HOW_TO_TURN_ON}."
        )


async def last_fairness(database: Database, namespace: str) -> ServerCheck | None:
    """What was found last of the fairness of a Temporal namespace; None: it was never tried."""
    async with database.platform_session(LOOK_UP) as session:
        return await _find(session, _name(namespace))


async def keep_fairness(database: Database, namespace: str, found: Fairness) -> ServerCheck:
    """Keeps what was found of a namespace's fairness, in the place of what was found before."""
    async with database.platform_session(KEEP) as session:
        return await _record(session, _name(namespace), found)


async def renew_fairness(client: Client, database: Database) -> ServerCheck:
    """What was found last of the client's namespace; tried anew, and kept, once that is a day old.

    Of many processes that ask at once one tries; the others wait for what it finds.

    Raises:
        ProbeFailed: the try came to no end.
        LockHeld: another's did not.
        RPCError: Temporal does not answer, or does not allow it.
        DatabaseUnreachable: the control plane does not answer.
    """
    name = _name(client.namespace)
    last = await last_fairness(database, client.namespace)
    if last is not None and last.age < HOLDS_FOR:
        return last
    async with database.platform_session(KEEP) as session:
        # Released with the transaction, also where this process is killed in the midst of it.
        await wait_for_locks(session, TRYING)
        await locks.take(session, name)
        last = await _find(session, name)
        if last is not None and last.age < HOLDS_FOR:
            return last
        return await _record(session, name, await fairness.probe(client))


def _name(namespace: str) -> str:
    return f"fairness of {namespace}"


async def _find(session: AsyncSession, name: str) -> ServerCheck | None:
    row = await session.get(ServerCheckRow, name)
    return None if row is None else _check(row)


async def _record(session: AsyncSession, name: str, found: Fairness) -> ServerCheck:
    # Not the transaction's time: that began before the try.
    values = {"holds": found.on, "message": found.message, "checked_at": func.clock_timestamp()}
    row = await session.scalar(
        insert(ServerCheckRow)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=[ServerCheckRow.name], set_=values)
        .returning(ServerCheckRow)
        .execution_options(populate_existing=True)
    )
    assert row is not None
    return _check(row)


def _check(row: ServerCheckRow) -> ServerCheck:
    return ServerCheck(holds=row.holds, message=row.message, checked_at=row.checked_at)
