"""Mail: requests it within a transaction, and sends it to the mail server."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.mail import OutgoingMail
from saas.refusals import Refused
from saas.services.mail import Mail, MailDelayed, MailRefused, current_mail_server
from temporal_tenancy import (
    current_tenant,
    heartbeating,
    scoped_key,
    tenant_activity,
    tenant_session,
)
from temporal_tenancy.outbox import enqueue, once

JOB: Final = "email.send"


class SendMail(BaseModel):
    """Input of `send_mail`: the mail to send."""

    mail_id: str


class SentMail(BaseModel):
    """The outcome for a mail."""

    sent: bool  # whether this attempt sent it; False: it had been sent before


class MailNotFound(Refused):
    """The tenant does not have the mail."""


async def ask_for_mail(
    session: AsyncSession, mail_id: str, *, recipient: str, subject: str, body: str
) -> None:
    """Writes a mail and enqueues the job that sends it, in the transaction of `session`.

    A mail that cannot be made into a message fails when it is sent, where a person sees it.

    Args:
        session: the open `tenant_session()`.
        mail_id: identifies the mail, so that repeated requests send it once; also its job's key.
        recipient: one address.
        subject: one line.
        body: plain text.
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
    """Sends a mail to the mail server, unless it is known to have been sent.

    If the process dies before recording that, the mail is sent again, with the same Message-ID.
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
    """Returns the mail to send, or None if it has been sent; raises `MailNotFound`."""
    async with tenant_session() as session:
        row = await session.scalar(select(OutgoingMail).where(OutgoingMail.id == mail_id))
    if row is None:
        raise MailNotFound(
            f'{current_tenant()} has no mail "{mail_id}". Only a mail that another job has written '
            "can be sent."
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
