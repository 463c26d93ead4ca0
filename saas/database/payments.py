"""The table of events from the payment provider."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy import TenantOwned


class PaymentOutcome(StrEnum):
    """What a payment event changed."""

    APPLIED = "applied"  # the subscription was updated
    SUPERSEDED = "superseded"  # a later event had been applied first
    IGNORED = "ignored"  # its type does not concern the subscription


class PaymentEvent(TenantOwned, TenantData):
    """An event as it was signed; its id makes repeated deliveries one event."""

    __tablename__ = "payment_events"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]  # JSON, byte for byte
    sent_at: Mapped[dt.datetime]  # when it was first delivered, by the sender's clock
    received_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    outcome: Mapped[str | None]  # None: its job has not run to the end

    __table_args__ = (CheckConstraint(one_of("outcome", PaymentOutcome), name="outcome"),)
