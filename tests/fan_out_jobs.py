"""A job that a fan-out test can hold, fail and count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ApplicationError

from saas.queues import Queue
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from temporal_tenancy.core.periods import Period
from tests.fan_out_control import Work, controlled_work

MONSTROUS = {"digits": 10**4500}  # can be encoded, and not decoded
LOUD = "T" * 2**20  # two of them are more than an activity may be given


class ControlledInput(TenantInput):
    note: str = "none"


@tenant_job("test.controlled", queue=Queue.BULK, feature="analytics")
class Controlled:
    """Does what the test decided for its tenant."""

    @workflow.run
    async def run(self, job: ControlledInput) -> str:
        return await workflow.execute_activity(
            controlled_work,
            Work(tick=job.note),
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


class ControlledDailyInput(TenantInput):
    period: str


@tenant_job("test.controlled_daily", queue=Queue.BULK, period=Period.DAY)
class ControlledDaily:
    """Does what the test decided for its tenant, about a day."""

    @workflow.run
    async def run(self, job: ControlledDailyInput) -> str:
        return await workflow.execute_activity(
            controlled_work,
            Work(tick=job.period),
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


@tenant_job("test.monstrous", queue=Queue.BULK)
class Monstrous:
    """Ends with what can be encoded and not decoded, if its tenant's name begins so."""

    @workflow.run
    async def run(self, job: ControlledInput) -> Any:
        if job.tenant_id.startswith("returns"):
            return MONSTROUS
        if job.tenant_id.startswith("mumbles"):
            return RawValue(Payload(metadata={"encoding": b"of/nobody"}, data=b"\xff"))
        if job.tenant_id.startswith("raises"):
            raise ApplicationError("no", MONSTROUS, type="Monstrous", non_retryable=True)
        if job.tenant_id.startswith("mutters"):
            raise ApplicationError("n\0o", type="N\0UL", non_retryable=True)
        if job.tenant_id.startswith("shouts"):
            raise ApplicationError("no", type=LOUD, non_retryable=True)
        return None


WORKFLOWS: list[type] = [Controlled, ControlledDaily, Monstrous]
