"""worker.py whose activities of some tenants have done their work and never say so.

`after2-...` is a tenant whose second activity of each run stays at work once its effects are there.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from typing import Any, Final

from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
)

from processes.worker import serve
from processes.worker.command import main
from temporal_tenancy.cli import exit_process

HELD: Final = "test.held"  # the log event

log: Final = logging.getLogger(__name__)


class _Hold(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        result = await super().execute_activity(input)
        info = activity.info()
        if (info.workflow_id or "").startswith(f"after{info.activity_id}-"):
            log.warning(HELD)
            await asyncio.Event().wait()
        return result


class Hold(Interceptor):
    """Keeps the results of some activities."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Hold(next)


if __name__ == "__main__":
    assert "Worker" in vars(serve)
    vars(serve)["Worker"] = partial(Worker, interceptors=[Hold()])
    exit_process(main(sys.argv[1:]))
