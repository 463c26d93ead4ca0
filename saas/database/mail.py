"""Mail that was asked for, and what people of a tenant are told."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.tables import TenantData
from temporal_tenancy.postgres.tenant_owned import TenantOwned


class OutgoingMail(TenantOwned, TenantData):
    """A mail to one person, written in the transaction of what it is about."""

    __tablename__ = "outgoing_mail"

    id: Mapped[str] = mapped_column(primary_key=True)  # what it is about, and its job's key
    recipient: Mapped[str]  # an address
    subject: Mapped[str]
    body: Mapped[str | None]  # None once it has been sent
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[dt.datetime | None]  # when the mail server had taken it
    answer: Mapped[str | None]  # the mail server's, at the last attempt that failed


class Notification(TenantOwned, TenantData):
    """Something that the people of a tenant are told in the application."""

    __tablename__ = "notifications"

    # In the order of time.
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    subject: Mapped[str]
    body: Mapped[str]
    reference: Mapped[str]  # what it is about, as `imports/<id>`
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
