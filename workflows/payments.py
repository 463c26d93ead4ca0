"""The job that applies a payment event."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.payments import AppliedPaymentEvent, ApplyPaymentEvent, apply_payment_event
from saas.queues import Queue
from temporal_tenancy import JobPriority, TenantInput, TenantStatus, tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class PaymentWebhookInput(TenantInput):
    """The payment event to apply."""

    event_id: str


@tenant_job(
    "payments.webhook",
    queue=Queue.CRITICAL,
    priority=JobPriority.URGENT,
    # A tenant that was suspended for not paying must be able to pay.
    statuses=[status for status in TenantStatus if status is not TenantStatus.DELETED],
)
class PaymentWebhook:
    """Applies a payment event to the tenant's subscription, once."""

    @workflow.run
    async def run(self, job: PaymentWebhookInput) -> AppliedPaymentEvent:
        """Returns what the event changed."""
        return await workflow.execute_activity(
            apply_payment_event,
            ApplyPaymentEvent(event_id=job.event_id),
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
