"""Jobs that the relay starts in tests: one a message, and several in a workflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import field_validator
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from saas.database.audit import record
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import Coalesce, tenant_job
from temporal_tenancy.outbox import current_event_id, once
from temporal_tenancy.postgres.database import tenant_session
from tests.relay_control import work

EFFECT: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2),
}


class Noted(TenantInput):
    """What is to be noted."""

    text: str = ""
    data: Any = None  # whatever there is

    @field_validator("text")
    @classmethod
    def _odd(cls, text: str) -> str:
        if text == "odd":
            raise LookupError("a model's own code may raise anything")
        return text


@tenant_activity
async def note(job: Noted) -> None:
    """Notes an effect once for each event."""
    await work(job.tenant_id)
    if job.text.startswith("refuse"):
        raise ApplicationError("this cannot be noted.", type="NotNoted", non_retryable=True)
    if job.text.startswith("curse"):
        raise ApplicationError("a NUL \x00 and half a pair \ud800.", non_retryable=True)
    if job.text.startswith("fail"):
        raise ApplicationError("this was not noted.", type="NotNoted")
    async with tenant_session() as session:
        if await once(session, "test.note", current_event_id()):
            await record(session, "noted", current_event_id(), text=job.text)


@tenant_job("test.note", queue="bulk")
class Note:
    """Notes an effect."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Notes it."""
        await workflow.execute_activity(note, job, **EFFECT)


@tenant_job("test.small", queue="bulk", coalesce=Coalesce(100, note, parallel=10))
class Small:
    """Notes an effect, together with others."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Notes it."""
        await workflow.execute_activity(note, job, **EFFECT)


@tenant_job("test.premium", queue="bulk", feature="premium")
class Premium:
    """Notes an effect for those who have paid for it."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Notes it."""
        await workflow.execute_activity(note, job, **EFFECT)


@tenant_job("test.dunning", queue="bulk", statuses=TenantStatus)
class Dunning:
    """Notes an effect, also for who is suspended."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Notes it."""
        await workflow.execute_activity(note, job, **EFFECT)


WORKFLOWS = [Note, Small, Premium, Dunning]
ACTIVITIES = [note]
