"""What the reference SaaS keeps for each airline: usage, invoices, documents, an audit log."""

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
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.postgres.tenant_owned import TenantOwned

TENANT_DATA: Final = MigrationEnvironment(
    name="tenants' data",
    script_location="saas.database:migrations",
    version_table="tenant_data_version",
)


# A name for every constraint, so that a migration can name the one it changes.
NAMING_CONVENTION: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class TenantData(DeclarativeBase):
    """The tables' common base."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # SQLAlchemy's own, read once by the mapper
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
    distance: Mapped[int] = mapped_column(BigInteger)  # miles, of the flights that were operated
    air_time: Mapped[int] = mapped_column(BigInteger)  # minutes
    computed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Invoice(TenantOwned, TenantData):
    """What a tenant owes for a month. A month has one."""

    __tablename__ = "invoices"

    period: Mapped[str] = mapped_column(primary_key=True)  # YYYY-MM, in the tenant's time zone
    currency: Mapped[str]  # ISO 4217
    total_cents: Mapped[int] = mapped_column(BigInteger)
    usage_events: Mapped[int]
    period_start: Mapped[dt.datetime]
    period_end: Mapped[dt.datetime]  # the first instant that is no longer in the period
    issued_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    lines: Mapped[list[InvoiceLine]] = relationship(
        lazy="raise", order_by="InvoiceLine.rate", cascade="all, delete-orphan"
    )

    __table_args__ = (CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name="period"),)


class InvoiceLine(TenantOwned, TenantData):
    """What an invoice charges at one rate."""

    __tablename__ = "invoice_lines"

    period: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[str] = mapped_column(primary_key=True)  # a name of database.prices
    quantity: Mapped[int] = mapped_column(BigInteger)
    unit_price_micros: Mapped[int] = mapped_column(BigInteger)  # millionths of the currency's unit
    amount_cents: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "period"], ["invoices.tenant_id", "invoices.period"], ondelete="CASCADE"
        ),
    )


class SubscriptionStatus(StrEnum):
    """Where a subscription stands."""

    ACTIVE = "active"  # is paid for
    PAST_DUE = "past_due"  # a payment has failed
    CANCELLED = "cancelled"  # is not paid for any more


class Subscription(TenantOwned, TenantData):
    """What a tenant pays for once its trial is over. A tenant has one at most."""

    __tablename__ = "subscriptions"

    plan: Mapped[str]  # an id of the control plane's plans
    status: Mapped[str] = mapped_column(server_default=text("'active'"))
    current_period_end: Mapped[dt.datetime | None]  # until when it is paid for; None: no end
    started_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[str | None]  # the payment event, whose own time `changed_at` is

    __table_args__ = (CheckConstraint(one_of("status", SubscriptionStatus), name="status"),)


class Document(TenantOwned, TenantData):
    """Something small that was made for a tenant, such as a report. A key has one of each kind."""

    __tablename__ = "documents"

    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime | None]  # None: kept without limit

    __table_args__ = (Index(None, "tenant_id", "expires_at"),)


class AuditEntry(TenantOwned, TenantData):
    """Something that was done for a tenant. The runtime adds entries, and changes none."""

    __tablename__ = "audit_entries"

    # In the order of time.
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]  # a workflow id, or a user
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]  # no personal data

    __table_args__ = (Index(None, "tenant_id", "at"), Index(None, "tenant_id", "actor"))


class DailyAudit(TenantOwned, TenantData):
    """How often an actor did something on a day in UTC."""

    __tablename__ = "audit_daily"

    day: Mapped[dt.date] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[int]
    computed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
