"""Tables of the reference SaaS: usage, invoices, subscriptions, documents and the audit log."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from saas.database.checks import one_of
from temporal_tenancy import TenantOwned

# A name for every constraint, so that a migration can name the one it changes.
NAMING_CONVENTION: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class TenantData(DeclarativeBase):
    """The base class of all tenant-owned tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # a name of SQLAlchemy's, read once by the mapper
        str: Text(),
        dt.datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
    }


class UsageEvent(TenantOwned, TenantData):
    """One flight."""

    __tablename__ = "usage_events"

    time_hour: Mapped[dt.datetime] = mapped_column(primary_key=True)  # of scheduled departure
    carrier: Mapped[str] = mapped_column(primary_key=True)
    flight: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str]
    destination: Mapped[str]
    tail_number: Mapped[str | None]
    distance: Mapped[int]  # miles
    air_time: Mapped[int | None]  # minutes
    departure_delay: Mapped[int | None]  # minutes
    cancelled: Mapped[bool]


class DailyUsage(TenantOwned, TenantData):
    """One day of a tenant's usage, in the tenant's own time zone."""

    __tablename__ = "daily_usage"

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    events: Mapped[int]
    cancelled: Mapped[int]
    distance: Mapped[int] = mapped_column(BigInteger)  # miles, of operated flights only
    air_time: Mapped[int] = mapped_column(BigInteger)  # minutes
    computed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Invoice(TenantOwned, TenantData):
    """What a tenant owes for one month."""

    __tablename__ = "invoices"

    period: Mapped[str] = mapped_column(primary_key=True)  # YYYY-MM, in the tenant's time zone
    currency: Mapped[str]  # ISO 4217
    total_cents: Mapped[int] = mapped_column(BigInteger)
    usage_events: Mapped[int]
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]  # exclusive
    issued_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    lines: Mapped[list[InvoiceLine]] = relationship(
        lazy="raise", order_by="InvoiceLine.rate", cascade="all, delete-orphan"
    )

    __table_args__ = (CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name="period"),)


class InvoiceLine(TenantOwned, TenantData):
    """One line of an invoice: the charge at one rate."""

    __tablename__ = "invoice_lines"

    period: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[str] = mapped_column(primary_key=True)  # the name of a rate in database.prices
    quantity: Mapped[int] = mapped_column(BigInteger)
    unit_price_micros: Mapped[int] = mapped_column(BigInteger)  # millionths of the currency's unit
    amount_cents: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "period"], ["invoices.tenant_id", "invoices.period"], ondelete="CASCADE"
        ),
    )


class SubscriptionStatus(StrEnum):
    """The state of a subscription."""

    ACTIVE = "active"  # paid for
    PAST_DUE = "past_due"  # a payment failed
    CANCELLED = "cancelled"  # no longer paid for


class Subscription(TenantOwned, TenantData):
    """The plan that a tenant pays for after its trial; at most one per tenant."""

    __tablename__ = "subscriptions"

    plan: Mapped[str]  # the id of a plan in the control plane
    status: Mapped[str] = mapped_column(server_default=text("'active'"))
    current_period_end: Mapped[dt.datetime | None]  # paid until then; None: without end
    started_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[str | None]  # the payment event; `changed_at` is that event's time

    __table_args__ = (CheckConstraint(one_of("status", SubscriptionStatus), name="status"),)


class Document(TenantOwned, TenantData):
    """A small result made for a tenant, such as a report; unique by kind and key."""

    __tablename__ = "documents"

    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime | None]  # None: never

    __table_args__ = (Index(None, "tenant_id", "expires_at"),)


class AuditEntry(TenantOwned, TenantData):
    """One entry of the audit log. The runtime role can insert rows but not change them."""

    __tablename__ = "audit_entries"

    # UUIDv7, so in order of time.
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]  # a workflow id, or a user
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]  # no personal data

    __table_args__ = (Index(None, "tenant_id", "at"), Index(None, "tenant_id", "actor"))


class DailyAudit(TenantOwned, TenantData):
    """The number of times that an actor took an action on one day (UTC)."""

    __tablename__ = "audit_daily"

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[int]
    computed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
