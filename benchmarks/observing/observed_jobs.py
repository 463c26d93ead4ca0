"""A job that reads and writes a little, on the queue of its arm."""

from __future__ import annotations

import os
from typing import Final

from sqlalchemy import text
from temporalio import workflow

from benchmarks.shared.no_op import TIMEOUT
from temporal_tenancy import TenantInput, tenant_activity, tenant_job, tenant_session

QUEUE_VARIABLE: Final = "BENCH_OBSERVED_QUEUE"
NAME: Final = "bench.observed"

_ADD: Final = text(
    "insert into audit_entries (tenant_id, actor, action, subject, details) "
    "values (:tenant, 'bench', 'noted', :subject, '{}')"
)
_READ: Final = text("select subject from audit_entries order by id desc limit 1")


class Observed(TenantInput):
    """Input of the job."""

    number: int = 0


@tenant_activity
async def add_observed(job: Observed) -> str:
    """Adds an entry to the tenant's audit log; returns the subject of the last one."""
    async with tenant_session() as session:
        await session.execute(_ADD, {"tenant": job.tenant_id, "subject": str(job.number)})
        return str(await session.scalar(_READ))


@tenant_job(NAME, queue=os.environ.get(QUEUE_VARIABLE, "bench-observed"))
class ObservedJob:
    """Adds an entry."""

    @workflow.run
    async def run(self, job: Observed) -> str:
        """Adds the entry."""
        return await workflow.execute_activity(add_observed, job, start_to_close_timeout=TIMEOUT)
