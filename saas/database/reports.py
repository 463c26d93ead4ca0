"""The table of requested reports."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.exports import RequestStatus
from saas.database.models import TenantData
from temporal_tenancy import TenantOwned

REQUESTED_REPORT: Final = "report.requested"  # kind of the document, whose key is the report's id


class RequestedReport(TenantOwned, TenantData):
    """The request for a report; the finished report is a `Document`."""

    __tablename__ = "requested_reports"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    kind: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default=text("'requested'"))
    requested_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[dt.datetime | None]

    __table_args__ = (CheckConstraint(one_of("status", RequestStatus), name="status"),)
