"""The activities of the jobs that go through the outbox: they add a row each, or nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from sqlalchemy import text
from temporalio.exceptions import ApplicationError

from temporal_tenancy import TenantInput, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_id, current_event_ids, once, once_each

SMALL_QUEUE: Final = "bench-small"
PAYMENTS_QUEUE: Final = "bench-critical"
ANALYTICS_QUEUE: Final = "bench-bulk"
ANALYTICS_SLOTS: Final = 4

# For our table or the peer's, which differ only in row-level security.
ADD_ENTRY: Final = """
    insert into {table} (tenant_id, actor, action, subject, details)
    values ({tenant}, 'bench', 'noted', {subject}, '{{}}')
"""
_ADD: Final = text(ADD_ENTRY.format(table="audit_entries", tenant=":tenant", subject=":subject"))


_ADD_EACH: Final = text("""
    insert into audit_entries (tenant_id, actor, action, subject, details)
    select :tenant, 'bench', 'noted', subject, '{}'
    from unnest(cast(:subjects as text[])) as given (subject)
""")


class Noted(TenantInput):
    """Input of `add_entry`."""

    number: int = 0
    poison: bool = False  # cannot be handled


class Worked(TenantInput):
    """Input of a job with a duration and the time of its request."""

    asked_at: float  # seconds since the epoch
    seconds: float = 0.0  # its duration


@tenant_activity
async def add_entry(job: Noted) -> None:
    """Adds an entry to the tenant's audit log, once for each message."""
    async with tenant_session() as session:
        if await once(session, "bench.small", current_event_id()):
            values = {"tenant": job.tenant_id, "subject": str(job.number)}
            await session.execute(_ADD, values)


@tenant_activity
async def add_entries(jobs: list[Noted]) -> None:
    """Adds an entry for each of several messages, in one transaction."""
    async with tenant_session() as session:
        new = await once_each(session, "bench.small", current_event_ids())
        added = [
            str(job.number)
            for job, event_id in zip(jobs, current_event_ids(), strict=True)
            if event_id in new
        ]
        await session.execute(_ADD_EACH, {"tenant": jobs[0].tenant_id, "subjects": added})
        if any(job.poison for job in jobs):
            raise ApplicationError("this cannot be noted.", type="NotNoted", non_retryable=True)


@tenant_activity
async def pay(job: Worked) -> None:
    """Records the seconds since the request."""
    waited = time.time() - job.asked_at
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": job.tenant_id, "subject": str(waited)})


@tenant_activity
async def analyse(job: Worked) -> None:
    """Occupies a slot for `seconds`, without using a processor."""
    await asyncio.sleep(job.seconds)
