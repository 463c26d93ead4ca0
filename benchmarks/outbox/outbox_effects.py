"""What the jobs that go through the outbox do: a row each, or nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from sqlalchemy import text

from temporal_tenancy import TenantInput, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_id, once

SMALL_QUEUE: Final = "bench-small"
PAYMENTS_QUEUE: Final = "bench-critical"
ANALYTICS_QUEUE: Final = "bench-bulk"
ANALYTICS_SLOTS: Final = 4

# The table is the peer's, or ours: the same columns and indexes, but for row-level security.
ADD_ENTRY: Final = """
    insert into {table} (tenant_id, actor, action, subject, details)
    values ({tenant}, 'bench', 'noted', {subject}, '{{}}')
"""
_ADD: Final = text(ADD_ENTRY.format(table="audit_entries", tenant=":tenant", subject=":subject"))


class Noted(TenantInput):
    """What is to be noted."""

    number: int = 0


class Worked(TenantInput):
    """Work that takes a while, and when it was asked for."""

    asked_at: float  # seconds since the epoch
    seconds: float = 0.0  # that it takes


@tenant_activity
async def add_entry(job: Noted) -> None:
    """Adds an entry to the tenant's audit log, once for each message."""
    async with tenant_session() as session:
        if await once(session, "bench.small", current_event_id()):
            values = {"tenant": job.tenant_id, "subject": str(job.number)}
            await session.execute(_ADD, values)


@tenant_activity
async def pay(job: Worked) -> None:
    """Notes how many seconds it took to get here."""
    waited = time.time() - job.asked_at
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": job.tenant_id, "subject": str(waited)})


@tenant_activity
async def analyse(job: Worked) -> None:
    """Takes a slot for a while, and no processor."""
    await asyncio.sleep(job.seconds)
