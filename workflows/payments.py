"""Payments."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.payments import AppliedPaymentEvent, ApplyPaymentEvent, apply_payment_event
from saas.queues import Queue
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import JobPriority, tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class PaymentWebhookInput(TenantInput):
    """Which payment event of the tenant's."""

    event_id: str


@tenant_job(
    "payments.webhook",
    queue=Queue.CRITICAL,
    priority=JobPriority.URGENT,
    # Who is suspended for not paying may pay.
    statuses=[status for status in TenantStatus if status is not TenantStatus.DELETED],
)
class PaymentWebhook:
    """Changes the tenant's subscription as a payment event says, once."""

    @workflow.run
    async def run(self, job: PaymentWebhookInput) -> AppliedPaymentEvent:
        """Returns what the event has done."""
        return await workflow.execute_activity(
            apply_payment_event,
            ApplyPaymentEvent(event_id=job.event_id),
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
