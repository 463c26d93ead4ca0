"""Other systems that a tenant's records are taken over from."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy.postgres.tenant_owned import TenantOwned


class SyncStatus(StrEnum):
    """What the last run has come to."""

    NEVER = "never"  # there was none
    SYNCING = "syncing"  # it has taken over pages, and there are more
    SYNCED = "synced"  # it came to the end
    FAILED = "failed"  # it gave up; another goes on from its cursor


class Integration(TenantOwned, TenantData):
    """A partner's API. Its credential is the secret `integrations.{name}`."""

    __tablename__ = "integrations"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    name: Mapped[str]
    url: Mapped[str]
    cursor: Mapped[str | None]  # the partner's own word for how far we are; None: at the beginning
    status: Mapped[str] = mapped_column(server_default=text("'never'"))
    last_synced_at: Mapped[dt.datetime | None]  # when it last came to the end
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="name"),
        CheckConstraint(one_of("status", SyncStatus), name="status"),
    )


class ExternalRecord(TenantOwned, TenantData):
    """A partner's record as it was last seen."""

    __tablename__ = "external_records"

    integration_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)  # the partner's
    data: Mapped[dict[str, Any]]
    synced_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"],
            ["integrations.tenant_id", "integrations.id"],
            ondelete="CASCADE",
        ),
    )
