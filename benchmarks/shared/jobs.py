"""The workflows of our arm: tenants' jobs. The peer's are in a module of their own, `bare_jobs`.

The sandbox runs a workflow's module once for every run, so that each arm would pay for the
declarations of the other.
"""

from __future__ import annotations

from temporalio import workflow

from benchmarks.shared.no_op import (
    OUR_QUEUE,
    STEPS,
    STUCK,
    STUCK_TIMEOUT,
    TIMEOUT,
    Nothing,
    is_stuck,
    our_no_op,
)
from temporal_tenancy import TenantInput, tenant_job


class OurInput(TenantInput):
    """Input of our jobs."""

    note: str = "none"


@tenant_job("bench.ours", queue=OUR_QUEUE)
class OurChild:
    """Runs one no-op activity for one tenant."""

    @workflow.run
    async def run(self, job: OurInput) -> str:
        """Runs the activity."""
        return await workflow.execute_activity(
            our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@tenant_job("bench.stuck", queue=OUR_QUEUE, execution_timeout=STUCK_TIMEOUT)
class StuckChild:
    """Runs one no-op activity; with the note `STUCK`, hangs for one tenant in a hundred."""

    @workflow.run
    async def run(self, job: OurInput) -> str:
        """Runs the activity, or waits until the job's timeout."""
        if job.note == STUCK and is_stuck(job.tenant_id):
            await workflow.wait_condition(lambda: False)
        return await workflow.execute_activity(
            our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
        )


@tenant_job("bench.our_steps", queue=OUR_QUEUE)
class OurSteps:
    """Runs many no-op activities for one tenant."""

    @workflow.run
    async def run(self, job: OurInput) -> None:
        """Runs the activities one after the other."""
        for _ in range(STEPS):
            await workflow.execute_activity(
                our_no_op, Nothing(note=job.note), start_to_close_timeout=TIMEOUT
            )


OUR_JOBS = [OurChild, OurSteps, StuckChild]
