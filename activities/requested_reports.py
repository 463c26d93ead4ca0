"""Requested reports: made once, and stored as documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from activities.days import Day, local_day
from activities.limits import LARGE
from activities.months import Month
from activities.refusals import Refused
from activities.search import ask_for_index
from saas.database import audit
from saas.database.exports import RequestStatus
from saas.database.models import Document, Invoice
from saas.database.reports import REQUESTED_REPORT, RequestedReport
from temporal_tenancy import (
    InvalidPayload,
    current_tenant,
    current_tenant_record,
    heartbeating,
    read_input,
    tenant_activity,
    tenant_session,
)
from temporal_tenancy.core import days_from
from temporal_tenancy.outbox import enqueue

JOB: Final = "reports.generate"
DAYS_MAX: Final = 366  # in a usage report
ROUTES_MAX: Final = 100  # in a usage report
ID_MAX_CHARACTERS: Final = 200


class ReportNotFound(Refused):
    """The tenant does not have the report."""


class MakeReport(BaseModel):
    """Input of `make_report`: the report to make."""

    report_id: str = Field(max_length=ID_MAX_CHARACTERS)


class MadeReport(BaseModel):
    """Where a report is."""

    report_id: UUID
    document_kind: str
    document_key: str
    made: bool  # False: it existed before


class UsageByRoute(BaseModel):
    """A report on the busiest routes, over days in the tenant's time zone."""

    first: Day
    last: Day  # inclusive

    @model_validator(mode="after")
    def _in_order(self) -> Self:
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


_ROUTES: Final = text("""
    select origin, destination, count(*) as events,
           count(*) filter (where cancelled) as cancelled,
           coalesce(sum(distance) filter (where not cancelled), 0) as distance
      from usage_events
     where tenant_id = :tenant_id
       and time_hour >= :since
       and time_hour < :until
     group by origin, destination
     order by events desc, origin, destination
     limit :routes
""")


async def _usage_by_route(session: AsyncSession, parameters: UsageByRoute) -> dict[str, Any]:
    zone = current_tenant_record().time_zone
    since, _ = local_day(parameters.first, zone)
    _, until = local_day(parameters.last, zone)
    values = {"tenant_id": current_tenant(), "since": since, "until": until, "routes": ROUTES_MAX}
    routes = (await session.execute(_ROUTES, values)).mappings()
    return {"routes": [{**route, "distance": int(route["distance"])} for route in routes]}


async def _invoices_by_month(session: AsyncSession, parameters: InvoicesByMonth) -> dict[str, Any]:
    columns = (Invoice.period, Invoice.currency, Invoice.total_cents, Invoice.usage_events)
    invoices = await session.execute(
        select(*columns)
        .where(Invoice.period >= parameters.first, Invoice.period <= parameters.last)
        .order_by(Invoice.period)
    )
    return {"invoices": [dict(invoice) for invoice in invoices.mappings()]}


@dataclass(frozen=True)
class ReportKind:
    """A kind of report: its parameters, and the function that makes it as JSON."""

    parameters: type[BaseModel]
    make: Callable[[AsyncSession, Any], Awaitable[dict[str, Any]]]  # takes a `parameters` object


# Add an entry for each further kind of report.
REPORTS: Final = {
    "usage.by_route": ReportKind(UsageByRoute, _usage_by_route),
    "invoices.by_month": ReportKind(InvoicesByMonth, _invoices_by_month),
}


async def request_report(session: AsyncSession, kind: str, parameters: Mapping[str, Any]) -> UUID:
    """Requests a report in the transaction of `session`, the open `tenant_session()`.

    Returns the report's id, which is the key of its job. Raises `InvalidPayload` if the kind does
    not exist or the parameters do not fit it.
    """
    checked = _parameters(kind, parameters)
    report = RequestedReport(kind=kind, parameters=checked.model_dump(mode="json"))
    session.add(report)
    await session.flush()
    await enqueue(JOB, {"report_id": str(report.id)}, key=str(report.id))
    return report.id


@tenant_activity
@heartbeating()
async def make_report(request: MakeReport) -> MadeReport:
    """Makes a report and stores it as a document, once and in one transaction.

    The document is kept for as long as the plan keeps usage. Raises `ReportNotFound` if the tenant
    does not have the report, even if another tenant does.
    """
    async with tenant_session(limits=LARGE) as session:
        report = await _report(session, request.report_id)
        made = report.status != RequestStatus.COMPLETED
        if made:
            checked = _parameters(report.kind, report.parameters)
            content = await REPORTS[report.kind].make(session, checked)
            await _keep(session, report, content)
    return MadeReport(
        report_id=report.id,
        document_kind=REQUESTED_REPORT,
        document_key=str(report.id),
        made=made,
    )


async def _report(session: AsyncSession, report_id: str) -> RequestedReport:
    """Returns the report, locked; waits while another run makes it."""
    try:
        wanted = select(RequestedReport).where(RequestedReport.id == UUID(report_id))
    except ValueError:
        report = None
    else:
        report = await session.scalar(wanted.with_for_update())
    if report is None:
        raise ReportNotFound(f"{current_tenant()} has no report {report_id!r}. Request a new one.")
    return report


async def _keep(session: AsyncSession, report: RequestedReport, content: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    days = current_tenant_record().plan.retention_days
    await session.execute(
        insert(Document)
        .values(
            kind=REQUESTED_REPORT,
            key=str(report.id),
            content={"kind": report.kind, "parameters": report.parameters, **content},
            expires_at=None if days is None else days_from(now, days),
        )
        .on_conflict_do_nothing()
    )
    await session.execute(
        update(RequestedReport)
        .where(RequestedReport.id == report.id)
        .values(status=RequestStatus.COMPLETED, completed_at=now)
    )
    await audit.record(session, "report.made", str(report.id), kind=report.kind)
    await ask_for_index("document", f"{REQUESTED_REPORT}/{report.id}", version="made")


def _parameters(kind: str, parameters: Mapping[str, Any]) -> BaseModel:
    found = REPORTS.get(kind)
    if found is None:
        raise InvalidPayload(f"the kind of report is unknown. Use one of {', '.join(REPORTS)}.")
    return read_input(found.parameters, dict(parameters), what=f"the parameters of {kind}")
