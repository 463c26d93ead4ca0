"""Requested reports: made once, and stored as documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from activities.days import local_day
from activities.limits import LARGE
from activities.search import ask_for_index
from saas.database import audit
from saas.database.exports import RequestStatus
from saas.database.reports import REQUESTED_REPORT, RequestedReport
from saas.database.tables import Document, Invoice
from saas.requests.reports import (
    InvoicesByMonth,
    UsageByRoute,
    report_not_found,
    report_parameters,
)
from temporal_tenancy import (
    current_tenant,
    current_tenant_record,
    heartbeating,
    tenant_activity,
    tenant_session,
)
from temporal_tenancy.core import days_from

ROUTES_MAX: Final = 100  # in a usage report
ID_MAX_CHARACTERS: Final = 200


class MakeReport(BaseModel):
    """Input of `make_report`: the report to make."""

    report_id: str = Field(max_length=ID_MAX_CHARACTERS)


class MadeReport(BaseModel):
    """Where a report is."""

    report_id: UUID
    document_kind: str
    document_key: str
    made: bool  # False: it existed before


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


# Add an entry for each further kind of report, and its parameters to `saas.requests.reports`. Each
# takes the tenant's session and the parameters, and returns JSON.
REPORTS: Final[Mapping[str, Callable[[AsyncSession, Any], Awaitable[dict[str, Any]]]]] = {
    "usage.by_route": _usage_by_route,
    "invoices.by_month": _invoices_by_month,
}


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
            checked = report_parameters(report.kind, report.parameters)
            content = await REPORTS[report.kind](session, checked)
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
        raise report_not_found(report_id)
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
