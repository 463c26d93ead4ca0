"""Deleting many rows of a tenant, a short transaction at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import CTE, CursorResult, Delete, and_, delete, func, inspect, select
from sqlalchemy.orm import InstrumentedAttribute
from temporalio import activity

from database import audit
from database.models import AuditEntry
from temporal_tenancy.database import tenant_session
from temporal_tenancy.heartbeats import heartbeating
from temporal_tenancy.tenant_owned import TenantOwned

BATCH: Final = 1_000  # rows


@dataclass(frozen=True)
class Aging:
    """Rows that go once a moment of theirs is past."""

    model: type[TenantOwned]
    moment: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]
    action: str  # what the audit log calls their deletion

    @property
    def table(self) -> str:
        """The table they are in."""
        return str(inspect(self.model).local_table)


async def delete_aged(rows: Aging, before: datetime) -> int:
    """Deletes the tenant's rows whose moment is before `before` (aware), the oldest first.

    Each batch is a transaction of its own, with its entry in the audit log. An attempt that is cut
    off leaves whole batches deleted, and the next goes on behind them.

    Returns how many rows this run of the workflow has deleted, over all its attempts: the audit
    log is asked, so a batch whose attempt was killed right after it is counted too. What another
    run deleted is not counted.
    """
    deleted = 0
    async with heartbeating() as heart:
        while batch := await _delete_batch(rows, before):
            deleted += batch
            heart.beat(rows.table, deleted)
        return await _deleted_by_this_run(rows)


async def _delete_batch(rows: Aging, before: datetime) -> int:
    async with tenant_session() as session:
        result = await session.execute(
            _batch(rows, before), execution_options={"synchronize_session": False}
        )
        count = cast(CursorResult[Any], result).rowcount
        if count:
            await audit.record(
                session,
                rows.action,
                rows.table,
                rows=count,
                before=before.isoformat(),
                run_id=activity.info().workflow_run_id,
            )
    return count


def _batch(rows: Aging, before: datetime) -> Delete:
    """The statement that deletes the oldest rows, as many as make a batch."""
    keys = [getattr(rows.model, column.key) for column in inspect(rows.model).primary_key]
    batch: CTE = (
        select(*keys)
        .where(rows.moment < before)
        .order_by(rows.moment, *keys)
        .limit(BATCH)
        .with_for_update()  # in one order, so that two runs take turns
        .cte("batch")
    )
    return delete(rows.model).where(and_(*(key == batch.c[key.key] for key in keys)))


async def _deleted_by_this_run(rows: Aging) -> int:
    info = activity.info()
    counted = func.sum(AuditEntry.details["rows"].as_integer())
    async with tenant_session() as session:
        total = await session.scalar(
            select(counted).where(
                AuditEntry.actor == info.workflow_id,
                AuditEntry.action == rows.action,
                AuditEntry.details["run_id"].as_string() == info.workflow_run_id,
            )
        )
    return total or 0
