"""Reports as a tenant asks for them: their kinds, requested, listed and shown with their result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.paging import Listing
from saas.database.reports import REQUESTED_REPORT, RequestedReport
from saas.database.tables import Document
from saas.periods import Day, Month
from saas.refusals import Refused
from saas.requests.lists import DOCUMENTS
from temporal_tenancy import InvalidPayload, current_tenant, read_input
from temporal_tenancy.core import did_you_mean
from temporal_tenancy.outbox import enqueue

JOB: Final = "reports.generate"
DAYS_MAX: Final = 366  # in a usage report

REPORTS: Final = Listing("reports", RequestedReport, [RequestedReport.id])


class ReportNotFound(Refused):
    """The tenant does not have the report."""


class UsageByRoute(BaseModel):
    """A report on the busiest routes, over days in the tenant's time zone."""

    first: Day
    last: Day  # inclusive

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("the last day is before the first")
        days = (date.fromisoformat(self.last) - date.fromisoformat(self.first)).days + 1
        if not 1 <= days <= DAYS_MAX:
            raise ValueError(f"a report covers 1 to {DAYS_MAX} days")
        return self


class InvoicesByMonth(BaseModel):
    """A report on the invoices of several months."""

    first: Month
    last: Month  # inclusive

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("the last month is before the first")
        return self


PARAMETERS: Final[Mapping[str, type[UsageByRoute | InvoicesByMonth]]] = {
    "usage.by_route": UsageByRoute,
    "invoices.by_month": InvoicesByMonth,
}
"""The kinds of report, with their parameters."""


async def request_report(
    session: AsyncSession,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    time_zone: str | None = None,
) -> UUID:
    """Requests a report in the transaction of `session`, the open `tenant_session()`.

    Args:
        session: the tenant's session.
        kind: one of `PARAMETERS`.
        parameters: JSON, which must fit the kind.
        time_zone: the tenant's IANA name; with it, a report that begins in the future is refused.

    Returns:
        The report's id, which is the key of its job.

    Raises:
        InvalidPayload: the kind does not exist, or the parameters do not fit it.
    """
    checked = report_parameters(kind, parameters)
    if time_zone is not None:
        today = datetime.now(ZoneInfo(time_zone)).date().isoformat()
        if checked.first > today[: len(checked.first)]:
            raise InvalidPayload(
                f"the parameters of {kind} begin in the future: in {time_zone} it is {today}."
            )
    report = RequestedReport(kind=kind, parameters=checked.model_dump(mode="json"))
    session.add(report)
    await session.flush()
    await enqueue(JOB, {"report_id": str(report.id)}, key=str(report.id))
    return report.id


async def find_report(session: AsyncSession, report_id: UUID) -> RequestedReport:
    """Returns the tenant's report; raises `ReportNotFound`, also for another tenant's."""
    report = await session.scalar(select(RequestedReport).where(RequestedReport.id == report_id))
    if report is None:
        raise report_not_found(str(report_id))
    return report


async def result_of(session: AsyncSession, report: RequestedReport) -> dict[str, Any] | None:
    """Returns a report's result (JSON); None until it is made, and once it has expired."""
    content = await session.scalar(
        select(Document.content).where(
            Document.kind == REQUESTED_REPORT, Document.key == str(report.id), *DOCUMENTS.where
        )
    )
    if content is None:
        return None
    return {name: value for name, value in content.items() if name not in ("kind", "parameters")}


def report_parameters(kind: str, parameters: Mapping[str, Any]) -> UsageByRoute | InvoicesByMonth:
    """Returns the parameters of a report, checked; raises `InvalidPayload`."""
    found = PARAMETERS.get(kind)
    if found is None:
        known = f"Use one of {', '.join(PARAMETERS)}.{did_you_mean(kind, PARAMETERS)}"
        raise InvalidPayload(f"the kind of report is unknown. {known}")
    return read_input(found, dict(parameters), what=f"the parameters of {kind}")


def report_not_found(report_id: str) -> ReportNotFound:
    """Returns the error for a report that the current tenant does not have."""
    return ReportNotFound(f"{current_tenant()} has no report {report_id}. Request a new one.")
