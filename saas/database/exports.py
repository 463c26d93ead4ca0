"""The table of exports: files with a tenant's own data, to download."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy import TenantOwned


class ExportDataset(StrEnum):
    """A dataset that can be exported."""

    CONTACTS = "contacts"
    INVOICES = "invoices"
    USAGE_EVENTS = "usage_events"


class ExportFormat(StrEnum):
    """A file format; the value is the file extension."""

    CSV = "csv"  # UTF-8, with a header line, safe to open in a spreadsheet
    PARQUET = "parquet"  # typed columns, compressed


class RequestStatus(StrEnum):
    """The state of something that was requested, such as an export."""

    REQUESTED = "requested"  # its job waits or runs
    COMPLETED = "completed"  # the result is ready
    FAILED = "failed"  # its job failed; another attempt may complete it


class Export(TenantOwned, TenantData):
    """A file with one dataset, read page by page."""

    __tablename__ = "exports"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    dataset: Mapped[str]
    format: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'requested'"))
    path: Mapped[str | None]  # in the object storage; None: nothing has been written yet
    rows: Mapped[int | None] = mapped_column(BigInteger)  # without the header line
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    requested_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[dt.datetime | None]
    expires_at: Mapped[dt.datetime]  # then the row and the file are deleted

    __table_args__ = (
        CheckConstraint(one_of("dataset", ExportDataset), name="dataset"),
        CheckConstraint(one_of("format", ExportFormat), name="format"),
        CheckConstraint(one_of("status", RequestStatus), name="status"),
        Index(None, "tenant_id", "expires_at"),
    )
