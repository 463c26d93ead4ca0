"""worker.py as a bad build: its invoices fail, and its daily sums of the audit log hang."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
)

from processes.worker import serve
from processes.worker.command import main
from temporal_tenancy.cli import exit_process

FAILS: Final = "billing.cycle"
HANGS: Final = "audit.aggregate"


class _Bad(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        job = activity.info().workflow_type
        if job == FAILS:
            raise ApplicationError("this build is bad", type="BadBuild", non_retryable=True)
        if job == HANGS:
            await asyncio.Event().wait()
        return await super().execute_activity(input)


class Bad(Interceptor):
    """Breaks the activities of some jobs."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Bad(next)


if __name__ == "__main__":
    assert "Worker" in vars(serve)
    vars(serve)["Worker"] = partial(Worker, interceptors=[Bad()])
    exit_process(main(sys.argv[1:]))
