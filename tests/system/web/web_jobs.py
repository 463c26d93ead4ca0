"""A job that fails for as long as a test says, for the HTTP API and for workers."""

from __future__ import annotations

import os
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from saas.database.audit import record
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from temporal_tenancy.outbox import current_event_id, once
from temporal_tenancy.postgres.database import tenant_session

BROKEN = "WEB_JOB_BROKEN"  # names a file: while it exists, the job fails


class Wanted(TenantInput):
    """What is to be noted."""

    note: str


@tenant_activity
async def note_or_fail(job: Wanted) -> None:
    """Notes an effect once, unless it is to fail."""
    if os.path.exists(os.environ[BROKEN]):  # noqa: ASYNC240
        raise ApplicationError("the partner is gone for good.", type="PartnerGone")
    async with tenant_session() as session:
        if await once(session, "test.wanted", current_event_id()):
            await record(session, "noted", current_event_id(), text=job.note)


@tenant_job("test.wanted", queue="bulk")
class WantedJob:
    """Notes an effect."""

    @workflow.run
    async def run(self, job: Wanted) -> None:
        """Notes it."""
        await workflow.execute_activity(
            note_or_fail,
            job,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


WORKFLOWS = [WantedJob]
ACTIVITIES = [note_or_fail]
