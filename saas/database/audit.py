"""The audit log: what was done for a tenant, by whom, written with the effect itself."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from saas.database.tables import AuditEntry

Detail = str | int | float | bool | None

_ONCE: Final = UUID("5d0f6a5e-63a0-4c0e-9d6d-7c2a6d2f1b44")  # any will do, and it must stay


async def record(
    session: AsyncSession, action: str, subject: str, *, once: str | None = None, **details: Detail
) -> None:
    """Writes an entry in the transaction of `session`, so that it is there as often as the effect.

    The actor is the workflow that the running activity belongs to.

    Args:
        session: the tenant's, in which the effect happens.
        action: what was done, as `invoice.issued`.
        subject: what it was done to, by its key.
        once: names an effect that is in another database transaction. However often it is
            recorded, the tenant has one entry of that name and action.
        details: what else there is to say; no personal data, since entries are never deleted.
    """
    entry: dict[str, object] = {
        "actor": activity.info().workflow_id,
        "action": action,
        "subject": subject,
        "details": details,
    }
    if once is not None:
        entry["id"] = uuid5(_ONCE, f"{action} {once}")
    await session.execute(insert(AuditEntry).values(entry).on_conflict_do_nothing())
