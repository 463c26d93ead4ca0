"""Deletes many rows of a tenant in short transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, Delete, and_, delete, func, inspect, select, true
from sqlalchemy.orm import InstrumentedAttribute
from temporalio import activity

from activities.limits import LARGE
from activities.search import ask_for_indexes
from saas.database import audit
from saas.database.tables import AuditEntry
from saas.services.object_storage import current_storage
from temporal_tenancy import TenantOwned, heartbeating, tenant_session


@dataclass(frozen=True)
class Batches:
    """How many rows one transaction deletes."""

    rows: int = 1_000
    rows_with_objects: int = 50  # each is a call to the object storage


@dataclass(frozen=True)
class Aging:
    """Rows that are deleted some time after a moment that is stored in them."""

    model: type[TenantOwned]
    moment: InstrumentedAttribute[Any]  # a datetime column; a row where it is null is kept
    action: str  # the audit log's name for the deletion
    paths: Sequence[InstrumentedAttribute[Any]] = ()  # columns with paths of objects to delete too
    keep: timedelta = timedelta(0)  # how long to keep a row after the moment
    indexed_by: Sequence[InstrumentedAttribute[Any]] = ()  # a document's kind and key, for search

    @property
    def table(self) -> str:
        """The name of the table."""
        return str(inspect(self.model).local_table)


async def delete_aged(rows: Aging, before: datetime, batches: Batches) -> int:
    """Deletes the tenant's rows that are due for deletion at `before` (aware), oldest first.

    Each batch is its own transaction, with an entry in the audit log. After an interrupted attempt
    the next one continues with the remaining rows.

    Returns how many rows this run of the workflow has deleted in all its attempts. The count comes
    from the audit log, so it includes batches of killed attempts, and none of other runs.
    """
    size = batches.rows_with_objects if rows.paths else batches.rows
    deleted = 0
    reached: datetime | None = None
    before -= rows.keep
    async with heartbeating() as heart:
        while moments := await _delete_batch(rows, before, reached, size):
            deleted += len(moments)
            reached = max(moments)
            heart.beat(rows.table, deleted)
        return await _deleted_by_this_run(rows)


async def _delete_batch(
    rows: Aging, before: datetime, reached: datetime | None, size: int
) -> Sequence[datetime]:
    """Deletes one batch of rows with their objects, and returns the rows' moments."""
    async with tenant_session(limits=LARGE) as session:
        statement: Any = _batch(rows, before, reached, size)
        statement = statement.returning(rows.moment, *rows.indexed_by, *rows.paths)
        unsynchronized = {"synchronize_session": False}
        deleted = (await session.execute(statement, execution_options=unsynchronized)).all()
        moments = [moment for moment, *_ in deleted]
        names = len(rows.indexed_by)
        if names and deleted:
            refs = ["/".join(row[1 : 1 + names]) for row in deleted]
            await ask_for_indexes("document", refs, version=f"deleted/{before.isoformat()}")
        # Before the commit, so that a row whose object could not be deleted is found again.
        for row in deleted:
            for path in filter(None, row[1 + names :]):
                await current_storage().delete(path)
        if moments:
            await audit.record(
                session,
                rows.action,
                rows.table,
                rows=len(moments),
                before=before.isoformat(),
                run_id=activity.info().workflow_run_id,
            )
    return moments


def _batch(rows: Aging, before: datetime, reached: datetime | None, size: int) -> Delete:
    """Returns the statement that deletes the oldest rows from `reached` on, at most `size`.

    Deleted rows stay in the index while a long transaction, such as a backup, may see them.
    Starting from `reached` keeps a batch from scanning those of earlier batches.
    """
    keys = [getattr(rows.model, column.key) for column in inspect(rows.model).primary_key]
    batch: CTE = (
        select(*keys)
        .where(rows.moment < before, true() if reached is None else rows.moment >= reached)
        .order_by(rows.moment, *keys)
        .limit(size)
        .with_for_update()  # in a fixed order, so that two runs take turns
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
