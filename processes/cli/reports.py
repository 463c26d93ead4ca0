"""Requests reports, and shows their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import RenderableType

from processes.cli import requests
from saas.database.exports import RequestStatus
from saas.database.reports import RequestedReport
from saas.requests.reports import JOB, REPORTS, find_report, request_report, result_of
from temporal_tenancy import WorkflowId, current_tenant_record, tenant_id
from temporal_tenancy.cli import (
    Answer,
    address,
    facts,
    input_fields,
    lines,
    minute,
    quoted,
    servers,
    table,
    wait_for_job,
    when,
    where_failed,
)


async def start(
    kind: str, *, tenant: str, input_json: str | None, wait: bool, quiet: bool
) -> Answer:
    """Requests a report of a tenant's data; `wait` waits until it is made.

    Raises:
        TenancyError: the tenant may not have reports, the kind does not exist, or the input does
            not fit it; nothing is requested.
    """
    parameters = input_fields(input_json, what=f"the parameters of {kind}")
    async with servers() as connections:
        async with requests.tenants_request(connections.database, tenant, JOB) as session:
            zone = current_tenant_record().time_zone
            report_id = await request_report(session, kind, parameters, time_zone=zone)
            report, result = await find_report(session, report_id), None
        workflow_id = WorkflowId(tenant_id(tenant), JOB, str(report_id))
        problem = None
        if wait:
            _, problem = await wait_for_job(connections, workflow_id, quiet=quiet)
            async with requests.tenants_view(tenant) as session:
                report = await find_report(session, report_id)
                result = await result_of(session, report)
        url = connections.link(str(workflow_id))
    document = {**_document(tenant, report), "result": result, "url": url}
    if wait:
        shown = _shown(_facts(tenant, report), result)
        return Answer(document, lines(shown, where_failed(url, problem)), problem)
    text = f"Report {report_id} of {tenant} is requested."
    follow = quoted(f"reports show {report_id} --tenant {tenant}")
    return Answer(document, lines(text, f"{follow} shows it once it is made.", address(url)))


async def show_all(*, tenant: str, limit: int) -> Answer:
    """Lists a tenant's reports, the newest first."""
    return await requests.listed(tenant, REPORTS, limit, columns=_COLUMNS, document=_document)


async def show(identifier: str, *, tenant: str) -> Answer:
    """Shows a report with its result; raises `ReportNotFound`, also for another tenant's."""
    report_id = requests.parsed_id(identifier, "a report")
    async with requests.tenants_view(tenant) as session:
        report = await find_report(session, report_id)
        result = await result_of(session, report)
    more = None
    if report.status != RequestStatus.COMPLETED:
        more = f"{quoted(f'explain {tenant}/{JOB}/{report_id}')} says more about its job."
    elif result is None:
        more = "The result has expired. Request a new report."
    return Answer(
        {**_document(tenant, report), "result": result},
        lines(_shown([("report", report.id), *_facts(tenant, report)], result), more),
    )


def _document(tenant: str, report: RequestedReport) -> dict[str, Any]:  # JSON
    return {
        "id": str(report.id),
        "tenant_id": tenant,
        "kind": report.kind,
        "parameters": report.parameters,
        "status": report.status,
        "requested_at": report.requested_at,
        "completed_at": report.completed_at,
        "workflow_id": str(WorkflowId(tenant, JOB, str(report.id))),
    }


def _facts(tenant: str, report: RequestedReport) -> list[tuple[str, object]]:
    """Returns what is told of a report besides its id."""
    return [
        ("kind", f"{report.kind} of {tenant}"),
        ("about", _parameters(report)),
        ("status", report.status),
        ("requested", when(report.requested_at)),
        ("made", when(report.completed_at)),
    ]


def _shown(told: list[tuple[str, object]], result: dict[str, Any] | None) -> RenderableType:
    about = facts(told)
    return about if result is None else lines(about, *map(_section, result.items()))


def _section(item: tuple[str, Any]) -> RenderableType:
    """Returns a field of a result: rows as a table, anything else on a line."""
    name, value = item
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        titles = list(dict.fromkeys(title for row in value for title in row))
        rows = [[row.get(title) for title in titles] for row in value]
        return lines("", table([_title(each) for each in titles], rows, empty=f"No {name}."))
    return facts([(_title(name), value)])


def _title(name: str) -> str:
    return name.replace("_", " ")


def _parameters(report: RequestedReport) -> str:
    first, last = (str(report.parameters.get(name, "")) for name in ("first", "last"))
    return first if first == last else f"{first} to {last}"


_COLUMNS: Final[Mapping[str, Callable[[RequestedReport], object]]] = {
    "report": lambda report: report.id,
    "kind": lambda report: report.kind,
    "about": _parameters,
    "status": lambda report: report.status,
    "requested": lambda report: minute(report.requested_at),
    "made": lambda report: minute(report.completed_at),
}
