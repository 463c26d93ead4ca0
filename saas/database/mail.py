"""Tables of outgoing mail and of in-app notifications."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.models import TenantData
from temporal_tenancy import TenantOwned


class OutgoingMail(TenantOwned, TenantData):
    """A mail to one person, written in the same transaction as its cause."""

    __tablename__ = "outgoing_mail"

    id: Mapped[str] = mapped_column(primary_key=True)  # names its cause; also its job's key
    recipient: Mapped[str]  # an e-mail address
    subject: Mapped[str]
    body: Mapped[str | None]  # None once it has been sent
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[dt.datetime | None]  # when the mail server accepted it
    answer: Mapped[str | None]  # the mail server's answer to the last failed attempt


class Notification(TenantOwned, TenantData):
    """A message that a tenant's users see in the application."""

    __tablename__ = "notifications"

    # UUIDv7, so in order of time.
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    subject: Mapped[str]
    body: Mapped[str]
    reference: Mapped[str]  # the thing it is about, such as `imports/<id>`
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
