"""Files that a tenant's data was written to, for the tenant to take away."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy.postgres.tenant_owned import TenantOwned


class ExportDataset(StrEnum):
    """What can be exported."""

    CONTACTS = "contacts"
    INVOICES = "invoices"
    USAGE_EVENTS = "usage_events"


class ExportFormat(StrEnum):
    """How it is written; the value is the file's ending."""

    CSV = "csv"  # UTF-8, with a header line, safe to open in a spreadsheet
    PARQUET = "parquet"  # typed columns, compressed


class RequestStatus(StrEnum):
    """How far something that was asked for has come."""

    REQUESTED = "requested"  # its job waits or runs
    COMPLETED = "completed"  # it is there
    FAILED = "failed"  # its job has failed; another attempt may complete it


class Export(TenantOwned, TenantData):
    """A file with one dataset as it was when it was read, page by page."""

    __tablename__ = "exports"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    dataset: Mapped[str]
    format: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'requested'"))
    path: Mapped[str | None]  # of the object; None: no byte of it has been written
    rows: Mapped[int | None] = mapped_column(BigInteger)  # without the header line
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    requested_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[dt.datetime | None]
    expires_at: Mapped[dt.datetime]  # then it is deleted, with the file

    __table_args__ = (
        CheckConstraint(one_of("dataset", ExportDataset), name="dataset"),
        CheckConstraint(one_of("format", ExportFormat), name="format"),
        CheckConstraint(one_of("status", RequestStatus), name="status"),
        Index(None, "tenant_id", "expires_at"),
    )
