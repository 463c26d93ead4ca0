"""Notifications."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.notifications import Notice, OneLine, PlainText, WrittenNotice, write_notification
from saas.queues import Queue
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class SendNotificationInput(TenantInput):
    """What the people of a tenant are told."""

    subject: OneLine
    body: PlainText
    reference: OneLine  # what it is about


@tenant_job("notifications.send", queue=Queue.DEFAULT)
class SendNotification:
    """Tells the people of a tenant something, in the application and by mail if they wish so."""

    @workflow.run
    async def run(self, job: SendNotificationInput) -> WrittenNotice:
        """Returns whether it was told now, or had been before."""
        return await workflow.execute_activity(
            write_notification,
            Notice(subject=job.subject, body=job.body, reference=job.reference),
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
