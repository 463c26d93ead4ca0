"""The job that notifies a tenant's users."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.notifications import Notice, OneLine, PlainText, WrittenNotice, write_notification
from saas.queues import Queue
from temporal_tenancy import TenantInput, tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class SendNotificationInput(TenantInput):
    """The notification to write."""

    subject: OneLine
    body: PlainText
    reference: OneLine  # the thing it is about


@tenant_job("notifications.send", queue=Queue.DEFAULT)
class SendNotification:
    """Notifies a tenant's users in the application and, if the tenant has set it up, by mail."""

    @workflow.run
    async def run(self, job: SendNotificationInput) -> WrittenNotice:
        """Returns whether this run wrote the notification or it had been written before."""
        return await workflow.execute_activity(
            write_notification,
            Notice(subject=job.subject, body=job.body, reference=job.reference),
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
