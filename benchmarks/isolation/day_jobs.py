"""A job with one activity, which has a session of its tenant."""

from __future__ import annotations

from temporalio import workflow

from benchmarks.isolation.day_effects import Counted, count_day
from benchmarks.shared.no_op import OUR_QUEUE, TIMEOUT
from temporal_tenancy import TenantInput, tenant_job


class CountInput(TenantInput):
    """Input of `CountDay`."""


@tenant_job("bench.count_day", queue=OUR_QUEUE)
class CountDay:
    """Counts one event of a day."""

    @workflow.run
    async def run(self, job: CountInput) -> None:
        """Runs the activity."""
        await workflow.execute_activity(
            count_day, Counted(tenant_id=job.tenant_id), start_to_close_timeout=TIMEOUT
        )
