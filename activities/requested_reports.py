"""Reports that somebody asked for: made once, and kept as documents."""

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
from saas.database.reports import REQUESTED_REPORT, RequestedReport
from saas.database.tables import Document, Invoice
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.directory import current_tenant_record
from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.instants import days_from
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating

JOB: Final = "reports.generate"
DAYS_MAX: Final = 366  # of a report on usage
ROUTES_MAX: Final = 100  # in a report
ID_MAX_CHARACTERS: Final = 200


class ReportNotFound(Refused):
    """The tenant has no such report."""


class MakeReport(BaseModel):
    """Asks for a report to be made."""

    report_id: str = Field(max_length=ID_MAX_CHARACTERS)


class MadeReport(BaseModel):
    """Where a report is."""

    report_id: UUID
    document_kind: str
    document_key: str
    made: bool  # False: it had been made before


class UsageByRoute(BaseModel):
    """A report on the routes that were used most, on days in the tenant's time zone."""

    first: Day
    last: Day  # it too

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        days = (date.fromisoformat(self.last) - date.fromisoformat(self.first)).days + 1
        if not 1 <= days <= DAYS_MAX:
            raise ValueError(f"a report is on 1 to {DAYS_MAX} days")
        return self


class InvoicesByMonth(BaseModel):
    """A report on what was invoiced."""

    first: Month
    last: Month  # it too

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


async def _usage_by_route(session: AsyncSession, asked: UsageByRoute) -> dict[str, Any]:
    zone = current_tenant_record().time_zone
    since, _ = local_day(asked.first, zone)
    _, until = local_day(asked.last, zone)
    values = {"tenant_id": current_tenant(), "since": since, "until": until, "routes": ROUTES_MAX}
    routes = (await session.execute(_ROUTES, values)).mappings()
    return {"routes": [{**route, "distance": int(route["distance"])} for route in routes]}


async def _invoices_by_month(session: AsyncSession, asked: InvoicesByMonth) -> dict[str, Any]:
    columns = (Invoice.period, Invoice.currency, Invoice.total_cents, Invoice.usage_events)
    invoices = await session.execute(
        select(*columns)
        .where(Invoice.period >= asked.first, Invoice.period <= asked.last)
        .order_by(Invoice.period)
    )
    return {"invoices": [dict(invoice) for invoice in invoices.mappings()]}


@dataclass(frozen=True)
class ReportKind:
    """What can be asked, and who answers it: with JSON, from the tenant's own rows."""

    parameters: type[BaseModel]
    make: Callable[[AsyncSession, Any], Awaitable[dict[str, Any]]]  # of its own parameters


# A further report is one more entry.
REPORTS: Final = {
    "usage.by_route": ReportKind(UsageByRoute, _usage_by_route),
    "invoices.by_month": ReportKind(InvoicesByMonth, _invoices_by_month),
}


async def request_report(session: AsyncSession, kind: str, parameters: Mapping[str, Any]) -> UUID:
    """Asks for a report in the transaction of `session`, the open `tenant_session()`.

    Returns the report's id, which is the key of its job. Raises `InvalidPayload` where there is no
    such kind, or the parameters do not fit it.
    """
    asked = _parameters(kind, parameters)
    report = RequestedReport(kind=kind, parameters=asked.model_dump(mode="json"))
    session.add(report)
    await session.flush()
    await enqueue(JOB, {"report_id": str(report.id)}, key=str(report.id))
    return report.id


@tenant_activity
@heartbeating()
async def make_report(request: MakeReport) -> MadeReport:
    """Makes a report and keeps it as a document, in one transaction and once.

    The document is kept for as long as the plan keeps usage. Raises `ReportNotFound` where the
    tenant has no such report, also where another has.
    """
    async with tenant_session(limits=LARGE) as session:
        report = await _report(session, request.report_id)
        made = report.status != RequestStatus.COMPLETED
        if made:
            asked = _parameters(report.kind, report.parameters)
            content = await REPORTS[report.kind].make(session, asked)
            await _keep(session, report, content)
    return MadeReport(
        report_id=report.id,
        document_kind=REQUESTED_REPORT,
        document_key=str(report.id),
        made=made,
    )


async def _report(session: AsyncSession, report_id: str) -> RequestedReport:
    """The report, which waits for whoever else makes it."""
    try:
        wanted = select(RequestedReport).where(RequestedReport.id == UUID(report_id))
    except ValueError:
        report = None
    else:
        report = await session.scalar(wanted.with_for_update())
    if report is None:
        raise ReportNotFound(f"{current_tenant()} has no report {report_id!r}. Ask for a new one.")
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
        raise InvalidPayload(f"there is no such report. Ask for one of {', '.join(REPORTS)}.")
    return read_input(found.parameters, dict(parameters), what=f"the parameters of {kind}")
