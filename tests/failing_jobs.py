"""A job that ends in every way in which workflow code can."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job


class FailureInput(TenantInput):
    how: str
    size: int = 0


@tenant_job("test.failing", queue="bulk")
class Failing:
    """Ends as its input says."""

    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, job: FailureInput) -> str:
        if job.how == "wait":
            await workflow.wait_condition(lambda: self.told)
        elif job.how == "clean up badly":
            try:
                await workflow.wait_condition(lambda: self.told)
            except asyncio.CancelledError:
                raise ApplicationError("could not clean up", type="NotCleaned") from None
        elif job.how == "timeout":
            await asyncio.wait_for(workflow.wait_condition(lambda: self.told), 0.01)
        elif job.how == "again":
            workflow.continue_as_new(job.model_copy(update={"how": "fail"}))
        elif job.how == "bug":
            raise ValueError("a bug")
        elif job.how == "fail":
            raise ApplicationError("it cannot be done", type="CannotBeDone")
        elif job.how == "large":
            raise ApplicationError("x" * job.size, type="Large")
        return "done"

    @workflow.signal
    def tell(self) -> None:
        self.told = True
