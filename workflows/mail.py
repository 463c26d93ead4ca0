"""The job that sends one mail."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.mail import SendMail, SentMail, send_mail
from saas.queues import Queue
from temporal_tenancy import TenantInput, tenant_job
from workflows.retries import HEARTBEAT_TIMEOUT, OUTSIDE_RETRIES


class SendEmailInput(TenantInput):
    """The mail to send."""

    mail_id: str


@tenant_job("email.send", queue=Queue.DEFAULT)
class SendEmail:
    """Sends one mail to the mail server."""

    @workflow.run
    async def run(self, job: SendEmailInput) -> SentMail:
        """Returns whether this run sent the mail or it had been sent before."""
        return await workflow.execute_activity(
            send_mail,
            SendMail(mail_id=job.mail_id),
            start_to_close_timeout=timedelta(minutes=2),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OUTSIDE_RETRIES,
        )
