"""What the payment provider has told of a tenant."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy.postgres.tenant_owned import TenantOwned


class PaymentOutcome(StrEnum):
    """What has become of a payment event."""

    APPLIED = "applied"  # the subscription is as it says
    SUPERSEDED = "superseded"  # a later event had come before it
    IGNORED = "ignored"  # of a type that says nothing of the subscription


class PaymentEvent(TenantOwned, TenantData):
    """An event as it was signed. Its id makes it one, however often it is delivered."""

    __tablename__ = "payment_events"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]  # JSON, byte for byte
    sent_at: Mapped[dt.datetime]  # of the first delivery, by the sender's clock
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    outcome: Mapped[str | None]  # None: its job has not been done

    __table_args__ = (CheckConstraint(one_of("outcome", PaymentOutcome), name="outcome"),)
