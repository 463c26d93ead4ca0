"""The jobs that go through the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from temporalio import workflow

from benchmarks.outbox.outbox_effects import (
    ANALYTICS_QUEUE,
    PAYMENTS_QUEUE,
    SMALL_QUEUE,
    Noted,
    Worked,
    add_entries,
    add_entry,
    analyse,
    pay,
)
from benchmarks.shared.no_op import TIMEOUT
from temporal_tenancy import Coalesce, JobPriority, TenantInput, tenant_job


@tenant_job("bench.small", queue=SMALL_QUEUE, coalesce=Coalesce(100, add_entry))
class Small:
    """Adds one row; coalesced, up to a hundred of them to a workflow."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Adds the row."""
        await workflow.execute_activity(add_entry, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.together", queue=SMALL_QUEUE, coalesce=Coalesce(100, add_entries, together=True))
class Together:
    """Adds one row; up to a hundred of them in one transaction."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Adds the row."""
        await workflow.execute_activity(add_entries, [job], start_to_close_timeout=TIMEOUT)


@tenant_job(
    "bench.together_20", queue=SMALL_QUEUE, coalesce=Coalesce(20, add_entries, together=True)
)
class Together20:
    """Adds one row; up to twenty of them in one transaction."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Adds the row."""
        await workflow.execute_activity(add_entries, [job], start_to_close_timeout=TIMEOUT)


@tenant_job("bench.started", queue=SMALL_QUEUE)
class Started:
    """Ends as soon as it is started."""

    @workflow.run
    async def run(self, job: TenantInput) -> None:
        """Does nothing."""


@tenant_job("bench.payment", queue=PAYMENTS_QUEUE, priority=JobPriority.URGENT)
class Payment:
    """An urgent job on its own queue."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Records how long it waited."""
        await workflow.execute_activity(pay, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.payment_in_line", queue=ANALYTICS_QUEUE, priority=JobPriority.LOW)
class PaymentInLine:
    """The same job on the analytics' queue, with their priority."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Records how long it waited."""
        await workflow.execute_activity(pay, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.analytics", queue=ANALYTICS_QUEUE, priority=JobPriority.LOW)
class Analytics:
    """A slow job that nobody waits for."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Occupies an activity slot for the input's `seconds`."""
        await workflow.execute_activity(analyse, job, start_to_close_timeout=TIMEOUT)


OUTBOX_JOBS = [Small, Together, Together20, Started, Payment, PaymentInLine, Analytics]
OUTBOX_ACTIVITIES: Sequence[Callable[..., Any]] = [add_entry, add_entries, pay, analyse]
