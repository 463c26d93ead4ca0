"""What the reference SaaS keeps for each airline: its usage, by event and by day, and invoices."""

from __future__ import annotations

import datetime as dt
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    MetaData,
    Text,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from temporal_tenancy.control_plane.models import NAMING_CONVENTION
from temporal_tenancy.migration_environment import MigrationEnvironment
from temporal_tenancy.tenant_owned import TenantOwned

TENANT_DATA: Final = MigrationEnvironment(
    name="tenants' data",
    script_location="database:migrations",
    version_table="tenant_data_version",
)


class TenantData(DeclarativeBase):
    """The tables' common base."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # SQLAlchemy's own, read once by the mapper
        str: Text(),
        dt.datetime: DateTime(timezone=True),
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
