"""Stored results of slow checks of the servers, for processes that cannot repeat them each time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from temporal_tenancy.control_plane.tables import ServerCheckRow
from temporal_tenancy.core.words import when
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.lock_timeouts import wait_for_locks
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.fairness import HOW_TO_TURN_ON, Fairness

HOLDS_FOR: Final = timedelta(days=1)  # the validity of a result
TRYING: Final = timedelta(minutes=5)  # the longest wait for a process that runs the same check
LOOK_UP: Final = "look up a server check"
KEEP: Final = "store a server check"


@dataclass(frozen=True)
class ServerCheck:
    """The result of a check, and its time."""

    holds: bool  # whether the server passed
    message: str  # one sentence
    checked_at: datetime  # aware

    @property
    def age(self) -> timedelta:
        """The time since the check."""
        return datetime.now(UTC) - self.checked_at

    @property
    def due_in(self) -> timedelta:
        """The time until the next check: a day after this one, or zero."""
        return max(HOLDS_FOR - self.age, timedelta(0))

    @property
    def off_sentence(self) -> str:
        """The warning for operators if the check found fairness off."""
        time = when(self.checked_at)
        return (
            f"FairnessOff: one tenant's backlog delays all others, according to a check at {time}. "
            f"{HOW_TO_TURN_ON}."
        )


async def last_fairness(database: Database, namespace: str) -> ServerCheck | None:
    """Returns the last fairness check of a Temporal namespace, or None if there was none."""
    async with database.platform_session(LOOK_UP) as session:
        return await _find(session, _name(namespace))


async def keep_fairness(database: Database, namespace: str, found: Fairness) -> ServerCheck:
    """Stores the result of a fairness check of a namespace, and replaces the previous one."""
    async with database.platform_session(KEEP) as session:
        return await _record(session, _name(namespace), found)


async def renew_fairness(client: Client, database: Database) -> ServerCheck:
    """Returns the fairness check of the client's namespace, and repeats it if it is a day old.

    If several processes call this at once, one of them runs the check and the others wait for its
    result.

    Raises:
        ProbeFailed: the check did not finish.
        LockHeld: the check of another process did not finish within 5 minutes.
        RPCError: Temporal does not answer, or denies the check.
        DatabaseUnreachable: the control plane does not answer.
    """
    name = _name(client.namespace)
    last = await last_fairness(database, client.namespace)
    if last is not None and last.age < HOLDS_FOR:
        return last
    async with database.platform_session(KEEP) as session:
        # The lock ends with the transaction, even if this process is killed.
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
    # Not now(), which is the start of the transaction and so before the check.
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
