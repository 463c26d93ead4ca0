"""Settles a tick: corrects the ledger's rows to what the server says about each child.

A fan-out that was killed, terminated or reset could not record the outcomes of its children, and a
person may have run some of them by hand since.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from temporalio.client import Client

from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.ledger import Entry
from temporal_tenancy.control_plane.tables import LedgerRow, LedgerState, TickRow, TickState
from temporal_tenancy.core.directory import Tenant, current_directory
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.ticks.fan_out.children import is_running, state_of_child, status_of_run

PAGE_SIZE: Final = 500  # rows
AT_ONCE: Final = 50  # concurrent requests to the server
NOT_STARTED: Final = "its fan-out ended before this tenant's turn."
FORGOTTEN: Final = (
    "RunForgotten: the server no longer has the run, so it is unknown whether it succeeded."
)

_UNDER_WAY: Final = (LedgerState.PLANNED, LedgerState.RUNNING)
_MAY_RUN_AGAIN: Final = (LedgerState.FAILED, LedgerState.SKIPPED)


class Settlement:
    """Settles ticks. Use it inside `use_database` and `use_directory`."""

    def __init__(self, client: Client) -> None:
        """`client` is of the namespace in which the children run."""
        self._client = client
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def settle(self, job: Job, tick: str) -> int:
        """Corrects the rows of a tick and, if all its fan-outs have ended, closes the tick.

        Rows that say succeeded stay as they are, and so do skipped tenants that may still not run.

        Args:
            job: of the tick.
            tick: its key.

        Returns:
            How many rows differed from the server.

        Raises:
            RPCError: the server does not answer.
        """
        changed = 0
        running: dict[str, bool] = {}  # fan-outs, by workflow id
        async for rows in rows_in_doubt(job, tick):
            changed += await self._settle_rows(job, tick, rows, running)
        await self._settle_tick(job, tick)
        return changed

    async def _settle_rows(
        self, job: Job, tick: str, rows: Sequence[LedgerRow], running: dict[str, bool]
    ) -> int:
        tenants = await tenants_of(rows)
        doubtful = [row for row in rows if _is_in_doubt(row, tenants.get(row.tenant_id), job)]
        found = await asyncio.gather(*(self._entry(row, running) for row in doubtful))
        changes = sorted(
            ((row.state, entry) for row, entry in zip(doubtful, found, strict=True) if entry),
            key=lambda change: change[0],
        )
        # Only if the row still has the state that was read: a running fan-out may have changed it.
        for was, group in groupby(changes, key=lambda change: change[0]):
            entries = [entry for _, entry in group]
            async with platform_session("settle rows") as session:
                await ledger.record(session, job.name, tick, entries, was=LedgerState(was))
        return len(changes)

    async def _entry(self, row: LedgerRow, running: dict[str, bool]) -> Entry | None:
        """Returns the row's correct entry, or None if the row is correct already."""
        if row.workflow_id is None:
            return None
        async with self._slots:
            found = await state_of_child(self._client, row.tenant_id, row.workflow_id)
            # Read after the child's state: a fan-out that has ended cannot start the child later.
            at_work = row.state in _UNDER_WAY and await self._runs(row.planned_by, running)
            if found is not None:
                if at_work and row.state == LedgerState.PLANNED and found.state in _MAY_RUN_AGAIN:
                    return None  # from an earlier run; the fan-out will start the child again
                return Entry(**found.model_dump()) if found.state != row.state else None
            if row.state not in _UNDER_WAY or at_work:
                return None
        if row.state == LedgerState.PLANNED:
            return Entry(row.tenant_id, LedgerState.NOT_STARTED, reason=NOT_STARTED)
        return Entry(row.tenant_id, LedgerState.FAILED, reason=FORGOTTEN, error_type="RunForgotten")

    async def _runs(self, workflow_id: str | None, running: dict[str, bool]) -> bool:
        if workflow_id is None:
            return False
        if workflow_id not in running:
            running[workflow_id] = await is_running(self._client, workflow_id)
        return running[workflow_id]

    async def is_lost(self, tick: TickRow) -> bool:
        """Whether a tick is recorded as running although all its fan-outs have ended.

        Raises:
            RPCError: the server does not answer.
        """
        if tick.state != TickState.RUNNING or tick.workflow_id is None:
            return False
        async with platform_session("read a tick's fan-outs") as session:
            others = await ledger.fan_outs_at_work(session, tick.job, tick.tick)
        for workflow_id in {tick.workflow_id, *others}:
            if await is_running(self._client, workflow_id):
                return False
        return True

    async def _settle_tick(self, job: Job, tick: str) -> None:
        """Closes a tick whose fan-outs have all ended without closing it."""
        async with platform_session("read a tick") as session:
            row = await ledger.find_tick(session, job.name, tick)
        if row is None or not await self.is_lost(row):
            return
        async with platform_session("close a tick") as session:
            await ledger.close_lost(session, row, reason=await self._ended(row))

    async def _ended(self, tick: TickRow) -> str:
        status = await status_of_run(self._client, str(tick.workflow_id))
        word = "is no longer on the server" if status is None else f"was {status.name.lower()}"
        return f"its fan-out {word.replace('_', ' ')} and did not record how it ended."


async def rows_in_doubt(job: Job, tick: str) -> AsyncIterator[Sequence[LedgerRow]]:
    """Yields the rows of a tick that have not succeeded, in pages of up to 500, by tenant id."""
    after: str | None = None
    while True:
        rows = await _page_in_doubt(job, tick, after)
        if not rows:
            return
        after = rows[-1].tenant_id
        yield rows


async def _page_in_doubt(job: Job, tick: str, after: str | None) -> Sequence[LedgerRow]:
    async with platform_session("read what is in doubt") as session:
        return await ledger.in_doubt(session, job.name, tick, after=after, limit=PAGE_SIZE)


async def tenants_of(rows: Sequence[LedgerRow]) -> Mapping[str, Tenant]:
    """Returns the tenants of ledger rows, by id; a tenant that no longer exists is left out."""
    found = await current_directory().find_many([row.tenant_id for row in rows])
    return {tenant.id: tenant for tenant in found}


def _is_in_doubt(row: LedgerRow, tenant: Tenant | None, job: Job) -> bool:
    if row.state != LedgerState.SKIPPED:
        return True
    return tenant is not None and refusal(tenant, job) is None
