"""Notifications to a tenant's users, in the application and by mail."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field

from activities.mail import ask_for_mail
from saas.database.mail import Notification
from temporal_tenancy import current_tenant_record, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_id, once

JOB: Final = "notifications.send"
MAIL_SETTING: Final = "notify_email"  # the tenant's setting with an address to notify as well

OneLine = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\p{Cc}\p{Zl}\p{Zp}]+$")]
PlainText = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]


class Notice(BaseModel):
    """Input of `write_notification`: the notification to write."""

    subject: OneLine
    body: PlainText
    reference: OneLine  # the thing it is about


class WrittenNotice(BaseModel):
    """The outcome for a notification."""

    written: bool  # whether this attempt wrote it; False: it had been written before
    mailed: bool = False  # whether a mail was requested


@tenant_activity
@heartbeating()
async def write_notification(notice: Notice) -> WrittenNotice:
    """Writes a notification once, and requests a mail if the tenant's settings have an address.

    Both happen in one transaction.
    """
    address = current_tenant_record().settings.get(MAIL_SETTING)
    async with tenant_session() as session:
        if not await once(session, JOB, current_event_id()):
            return WrittenNotice(written=False)
        row = Notification(subject=notice.subject, body=notice.body, reference=notice.reference)
        session.add(row)
        await session.flush()
        if address:
            await ask_for_mail(
                session,
                f"notification-{row.id}",
                recipient=str(address),
                subject=notice.subject,
                body=notice.body,
            )
    return WrittenNotice(written=True, mailed=bool(address))
