"""The observed job, on the queue of its arm."""

from __future__ import annotations

import os
from typing import Final

from temporalio import workflow

from benchmarks.observing.observed_effects import Observed, add_observed
from benchmarks.shared.no_op import TIMEOUT
from temporal_tenancy import tenant_job

QUEUE_VARIABLE: Final = "BENCH_OBSERVED_QUEUE"
NAME: Final = "bench.observed"


@tenant_job(NAME, queue=os.environ.get(QUEUE_VARIABLE, "bench-observed"))
class ObservedJob:
    """Adds an entry."""

    @workflow.run
    async def run(self, job: Observed) -> str:
        """Adds the entry."""
        return await workflow.execute_activity(add_observed, job, start_to_close_timeout=TIMEOUT)
