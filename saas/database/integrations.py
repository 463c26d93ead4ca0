"""Tables of a tenant's integrations: partners' APIs and the records copied from them."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.tables import TenantData
from temporal_tenancy import TenantOwned


class SyncStatus(StrEnum):
    """The outcome of the last run."""

    NEVER = "never"  # none has run
    SYNCING = "syncing"  # some pages are copied, and there are more
    SYNCED = "synced"  # all pages are copied
    FAILED = "failed"  # it gave up; the next run continues from the cursor


class Integration(TenantOwned, TenantData):
    """A partner's API. Its credential is in the secret store; see `partner_credentials`."""

    __tablename__ = "integrations"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    name: Mapped[str]
    url: Mapped[str]
    cursor: Mapped[str | None]  # the partner's opaque cursor; None: at the beginning
    status: Mapped[str] = mapped_column(server_default=text("'never'"))
    error: Mapped[str | None]  # why the last run failed, in words for the tenant
    last_synced_at: Mapped[dt.datetime | None]  # when a run last copied all pages
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'", name="name"),
        CheckConstraint(one_of("status", SyncStatus), name="status"),
    )

    @property
    def failure(self) -> str | None:
        """Why the last run failed; None unless it did, whatever an earlier release has left."""
        return self.error if self.status == SyncStatus.FAILED else None


class ExternalRecord(TenantOwned, TenantData):
    """The latest copy of a partner's record."""

    __tablename__ = "external_records"

    integration_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)  # the partner's id
    data: Mapped[dict[str, Any]]
    synced_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"],
            ["integrations.tenant_id", "integrations.id"],
            ondelete="CASCADE",
        ),
    )
