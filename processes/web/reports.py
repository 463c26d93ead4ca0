"""Reports: requests one, and shows its state and result."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncSession

from processes.web.bodies import as_sent, read_json
from processes.web.callers import Authenticated
from processes.web.errors import documented
from processes.web.idempotency import Key, answered_once
from processes.web.paging import LIMIT, After, ItemPage, Limit, identified, page_of
from processes.web.reference import json_body, reference_to
from processes.web.refusals import ReportUnknown
from saas.database.exports import RequestStatus
from saas.database.reports import RequestedReport
from saas.requests.reports import (
    JOB,
    PARAMETERS,
    REPORTS,
    ReportNotFound,
    find_report,
    request_report,
    result_of,
)
from temporal_tenancy import registry, tenant_session
from temporal_tenancy.core import require_runnable

router: Final = APIRouter(prefix="/reports", tags=["reports"])

_Parameters = Annotated[
    dict[str, Any],  # JSON
    WithJsonSchema({"anyOf": [reference_to(model) for model in PARAMETERS.values()]}),
]


class ReportRequest(BaseModel):
    """The report to make."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(json_schema_extra={"enum": list(PARAMETERS)}, examples=["usage.by_route"])
    parameters: _Parameters = Field({}, examples=[{"first": "2013-04-01", "last": "2013-04-30"}])


class ReportLinks(BaseModel):
    """Links to a report."""

    self: str
    job: str


class ReportEntry(BaseModel):
    """The state of a report, without its result."""

    id: UUID
    kind: str
    parameters: dict[str, Any]  # JSON
    status: RequestStatus
    requested_at: datetime
    completed_at: datetime | None
    links: ReportLinks


class ReportState(ReportEntry):
    """The state of a report, with its result."""

    result: dict[str, Any] | None  # JSON; null until it is made, and once it has expired


@router.post(
    "",
    status_code=202,
    response_model=ReportState,
    openapi_extra=json_body(
        ReportRequest,
        {
            "usage.by_route": {
                "kind": "usage.by_route",
                "parameters": {"first": "2013-04-01", "last": "2013-04-30"},
            },
            "invoices.by_month": {
                "kind": "invoices.by_month",
                "parameters": {"first": "2013-01", "last": "2013-12"},
            },
        },
    ),
    responses=documented(401, 403, 409, 413, 415, 422),
)
async def ask_for_report(request: Request, caller: Authenticated, key: Key = None) -> JSONResponse:
    """Request a report on days or months in the tenant's time zone."""
    require_runnable(caller.tenant.id, caller.tenant, registry[JOB])
    asked = await read_json(request, ReportRequest)

    async def make(session: AsyncSession) -> ReportState:
        report_id = await request_report(
            session, asked.kind, asked.parameters, time_zone=caller.tenant.time_zone
        )
        return await _state(session, await find_report(session, report_id))

    return await answered_once(request, key, as_sent(asked), make)


@router.get("", responses=documented(401))
async def list_reports(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[ReportEntry]:
    """List the reports, the newest first."""
    async with tenant_session() as session:
        return page_of(await REPORTS.page(session, after=after, limit=limit), _entry)


@router.get("/{report_id}", responses=documented(401, 404))
async def show_report(report_id: str, caller: Authenticated) -> ReportState:
    """Show the state of a report and, once it is made, its result."""
    parsed = identified(report_id, ReportUnknown)
    try:
        async with tenant_session() as session:
            return await _state(session, await find_report(session, parsed))
    except ReportNotFound:
        raise ReportUnknown from None


async def _state(session: AsyncSession, report: RequestedReport) -> ReportState:
    result = await result_of(session, report)
    return ReportState(**_entry(report).model_dump(), result=result)


def _entry(report: RequestedReport) -> ReportEntry:
    return ReportEntry(
        id=report.id,
        kind=report.kind,
        parameters=report.parameters,
        status=RequestStatus(report.status),
        requested_at=report.requested_at,
        completed_at=report.completed_at,
        links=ReportLinks(self=f"{router.prefix}/{report.id}", job=f"/jobs/{JOB}/{report.id}"),
    )
