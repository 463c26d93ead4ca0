"""Trials."""

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
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT

_SHORT: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "heartbeat_timeout": HEARTBEAT_TIMEOUT,
    "retry_policy": DATABASE_RETRIES,
}


class ExpireTrialInput(TenantInput):
    """Whose trial it is."""


class TrialReport(BaseModel):
    """Whether the trial ended now, and what the tenant became."""

    ended: EndedTrial | None  # None: it is not over, or there is none


@tenant_job(
    "trial.expiry",
    queue=Queue.DEFAULT,
    # A tenant that is no trial any more, perhaps by this very run, is no failure: its state is
    # checked on each activity.
    statuses=[status for status in TenantStatus if status is not TenantStatus.DELETED],
    execution_timeout=timedelta(hours=2),
)
class ExpireTrial:
    """Ends the tenant's trial once it is over: active on what it subscribed to, or suspended."""

    @workflow.run
    async def run(self, job: ExpireTrialInput) -> TrialReport:
        """Returns what became of the tenant; nothing where its trial is not over."""
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
