"""The job that bills a month."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.billing import InvoiceSummary, IssueInvoice, issue_invoice
from activities.months import Month
from saas.queues import Queue
from temporal_tenancy import Period, TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class BillingCycleInput(TenantInput):
    """The month to bill."""

    period: Month


@tenant_job(
    "billing.cycle",
    queue=Queue.BULK,
    period=Period.MONTH,
    execution_timeout=timedelta(hours=6),
)
class BillingCycle:
    """Issues the invoice for a month's metered usage."""

    @workflow.run
    async def run(self, job: BillingCycleInput) -> InvoiceSummary:
        """Returns the month's invoice, whether it is new or existed before."""
        workflow.set_current_details(f"Metering {job.tenant_id}'s usage of {job.period}.")
        invoice = await workflow.execute_activity(
            issue_invoice,
            IssueInvoice(period=job.period),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        amount = f"{invoice.total_cents / 100:,.2f} {invoice.currency}"
        workflow.set_current_details(
            f"Invoiced {job.tenant_id} {amount} for {number(invoice.usage_events, 'usage event')} "
            f"in {job.period}."
        )
        return invoice
