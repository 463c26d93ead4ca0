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
    add_entry,
    analyse,
    pay,
)
from benchmarks.shared.no_op import TIMEOUT
from temporal_tenancy import Coalesce, JobPriority, TenantInput, tenant_job


@tenant_job("bench.small", queue=SMALL_QUEUE, coalesce=Coalesce(100, add_entry))
class Small:
    """Adds one row; many of them are one workflow."""

    @workflow.run
    async def run(self, job: Noted) -> None:
        """Adds the row."""
        await workflow.execute_activity(add_entry, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.started", queue=SMALL_QUEUE)
class Started:
    """Is started, and that is all."""

    @workflow.run
    async def run(self, job: TenantInput) -> None:
        """Does nothing."""


@tenant_job("bench.payment", queue=PAYMENTS_QUEUE, priority=JobPriority.URGENT)
class Payment:
    """Somebody waits for this."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Notes how long it waited."""
        await workflow.execute_activity(pay, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.payment_in_line", queue=ANALYTICS_QUEUE, priority=JobPriority.LOW)
class PaymentInLine:
    """Somebody waits for this too, behind all analytics."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Notes how long it waited."""
        await workflow.execute_activity(pay, job, start_to_close_timeout=TIMEOUT)


@tenant_job("bench.analytics", queue=ANALYTICS_QUEUE, priority=JobPriority.LOW)
class Analytics:
    """Nobody waits for this."""

    @workflow.run
    async def run(self, job: Worked) -> None:
        """Takes its time."""
        await workflow.execute_activity(analyse, job, start_to_close_timeout=TIMEOUT)


OUTBOX_JOBS = [Small, Started, Payment, PaymentInLine, Analytics]
OUTBOX_ACTIVITIES: Sequence[Callable[..., Any]] = [add_entry, pay, analyse]
