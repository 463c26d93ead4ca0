"""Mail: asking for one in a transaction, and handing it to the mail server."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from activities.refusals import Refused
from saas.database.mail import OutgoingMail
from saas.services.mail import Mail, MailDelayed, MailRefused, current_mail_server
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.identifiers import scoped_key
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox import enqueue, once
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating

JOB: Final = "email.send"


class SendMail(BaseModel):
    """Asks for a mail to be handed to the mail server."""

    mail_id: str


class SentMail(BaseModel):
    """What has become of a mail."""

    sent: bool  # by this attempt; False: it had been sent before


class MailNotFound(Refused):
    """The tenant has no such mail."""


async def ask_for_mail(
    session: AsyncSession, mail_id: str, *, recipient: str, subject: str, body: str
) -> None:
    """Writes a mail and asks for it to be sent, in the transaction of `session`.

    Args:
        session: the open `tenant_session()`.
        mail_id: makes the mail one, however often it is asked for; it becomes its job's key.
        recipient: one address.
        subject: one line.
        body: plain text.

    What cannot be put into a message fails when it is sent, where a person sees it.
    """
    await session.execute(
        insert(OutgoingMail)
        .values(id=mail_id, recipient=recipient, subject=subject, body=body)
        .on_conflict_do_nothing()
    )
    await enqueue(JOB, {"mail_id": mail_id}, key=mail_id)


@tenant_activity
@heartbeating()
async def send_mail(request: SendMail) -> SentMail:
    """Hands a mail to the mail server, unless it is known to have been sent.

    It may be sent again when the process is cut off before that is noted; always with the same
    Message-ID.
    """
    server = current_mail_server()
    mail = await _waiting_mail(request.mail_id)
    if mail is None:
        return SentMail(sent=False)
    try:
        await server.send(mail)
    except (MailRefused, MailDelayed) as error:
        await _note_answer(request.mail_id, error.answer)
        raise
    async with tenant_session() as session:
        if not await once(session, JOB, request.mail_id):
            return SentMail(sent=False)
        await session.execute(
            update(OutgoingMail)
            .where(OutgoingMail.id == request.mail_id)
            .values(sent_at=datetime.now(UTC), body=None, answer=None)
        )
    return SentMail(sent=True)


async def _waiting_mail(mail_id: str) -> Mail | None:
    """The mail as it is sent; None where it has been. Raises `MailNotFound`."""
    async with tenant_session() as session:
        row = await session.scalar(select(OutgoingMail).where(OutgoingMail.id == mail_id))
    if row is None:
        raise MailNotFound(
            f'{current_tenant()} has no mail "{mail_id}". Mail is asked for by the job that it is '
            "about, which writes it."
        )
    if row.body is None:
        return None
    token = hashlib.sha256(scoped_key(current_tenant(), "mail", mail_id).encode()).hexdigest()[:32]
    return Mail(id=token, to=row.recipient, subject=row.subject, body=row.body, at=row.created_at)


async def _note_answer(mail_id: str, answer: str) -> None:
    async with tenant_session() as session:
        await session.execute(
            update(OutgoingMail)
            .where(OutgoingMail.id == mail_id, OutgoingMail.sent_at.is_(None))
            .values(answer=answer.replace("\x00", ""))
        )
