"""The audit log: who did what for a tenant, written in the transaction of the effect."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from saas.database.tables import AuditEntry

Detail = str | int | float | bool | None

_ONCE: Final = UUID("5d0f6a5e-63a0-4c0e-9d6d-7c2a6d2f1b44")  # arbitrary; must never change


async def record(
    session: AsyncSession,
    action: str,
    subject: str,
    *,
    actor: str | None = None,
    once: str | None = None,
    **details: Detail,
) -> None:
    """Adds an entry in the transaction of `session`, so that it commits with the effect or not.

    Args:
        session: the tenant session in which the effect happens.
        action: what was done, such as `invoice.issued`.
        subject: the key of the thing it was done to.
        actor: who did it; default: the workflow of the running activity.
        once: names an effect that commits in another transaction. However often it is
            recorded, the tenant has one entry per name and action.
        details: any further facts, without personal data, since entries are never deleted.
    """
    entry: dict[str, object] = {
        "actor": activity.info().workflow_id if actor is None else actor,
        "action": action,
        "subject": subject,
        "details": details,
    }
    if once is not None:
        entry["id"] = _id(action, once)
    await session.execute(insert(AuditEntry).values(entry).on_conflict_do_nothing())


async def was_recorded(session: AsyncSession, action: str, once: str) -> bool:
    """Returns whether the current tenant has the entry of this action and `once`."""
    entry = select(AuditEntry.id).where(AuditEntry.id == _id(action, once))
    return await session.scalar(entry) is not None


def _id(action: str, once: str) -> UUID:
    return uuid5(_ONCE, f"{action} {once}")
