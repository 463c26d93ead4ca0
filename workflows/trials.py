"""The job that ends a trial."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio import workflow

from activities.trials import (
    EndedTrial,
    EndTrial,
    LookAtTrial,
    end_trial,
    look_at_trial,
    note_trial_end,
)
from saas.queues import Queue
from temporal_tenancy import TenantInput, TenantStatus, tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT

_SHORT: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "heartbeat_timeout": HEARTBEAT_TIMEOUT,
    "retry_policy": DATABASE_RETRIES,
}


class ExpireTrialInput(TenantInput):
    """The tenant whose trial to check."""


class TrialReport(BaseModel):
    """Whether this run ended the trial, and the tenant's new status and plan."""

    ended: EndedTrial | None  # None: the trial is not over, or the tenant is not on trial


@tenant_job(
    "trial.expiry",
    queue=Queue.DEFAULT,
    # Each activity checks the tenant's status, and it must not fail because this run, or anyone
    # else, has already ended the trial.
    statuses=[status for status in TenantStatus if status is not TenantStatus.DELETED],
    execution_timeout=timedelta(hours=2),
)
class ExpireTrial:
    """Ends the tenant's trial when it is over: active on its subscribed plan, or suspended."""

    @workflow.run
    async def run(self, job: ExpireTrialInput) -> TrialReport:
        """Returns the tenant's new status and plan, or none if its trial is not over."""
        at = workflow.now()
        trial = await workflow.execute_activity(look_at_trial, LookAtTrial(at=at), **_SHORT)
        if not trial.over:
            return TrialReport(ended=None)
        ended = await workflow.execute_activity(
            end_trial, EndTrial(tenant_id=job.tenant_id, at=at, plan=trial.plan), **_SHORT
        )
        if ended is not None:
            await workflow.execute_activity(note_trial_end, ended, **_SHORT)
            workflow.set_current_details(
                f"The trial of {job.tenant_id} has ended: it is {ended.status} on {ended.plan}."
            )
        return TrialReport(ended=ended)
