from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from temporal_tenancy import tenant_owned


OrganizationOwned: Any = tenant_owned(column="organization_id", type="uuid")


class Base(DeclarativeBase):
    pass


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(OrganizationOwned, Base):
    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    status: Mapped[str]
    lines: Mapped[list[OrderLine]] = relationship()


class OrderLine(OrganizationOwned, Base):
    __tablename__ = "order_lines"
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "order_id"], ["orders.organization_id", "orders.id"]
        ),
    )
