"""Requested reports: made once, from the tenant's own rows only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select
from temporalio.client import Client, WorkflowFailureError

from activities.requested_reports import MadeReport
from saas.database.reports import REQUESTED_REPORT, RequestedReport
from saas.database.tables import AuditEntry, Document, Invoice, UsageEvent
from saas.queues import Queue
from saas.requests.reports import request_report
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.core.failures import root_cause, type_of
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.requested_reports import GenerateReport, GenerateReportInput

APRIL: dict[str, Any] = {"first": "2013-04-01", "last": "2013-04-30"}


@pytest.fixture
async def worker(saas: Client, tenants: Tenants) -> AsyncIterator[None]:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="standard", time_zone="America/New_York")
    async with saas_worker(saas, task_queue=Queue.DEFAULT):
        yield


async def give_flights(database: Database, tenant: str, *hours: str) -> None:
    same = {"carrier": "AC", "origin": "JFK", "destination": "LAX", "distance": 100}
    rows = [
        {
            **same,
            "time_hour": datetime.fromisoformat(hour),
            "flight": number,
            "cancelled": not number,
        }
        for number, hour in enumerate(hours)
    ]
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(insert(UsageEvent), rows)


async def ask(
    database: Database, tenant: str, kind: str, parameters: Mapping[str, Any] = APRIL
) -> UUID:
    with within(database, tenant):
        async with tenant_session() as session:
            return await request_report(session, kind, parameters)


async def generate(
    client: Client, tenant: str, report_id: object, key: object = None
) -> MadeReport:
    return await client.execute_workflow(
        GenerateReport.run,
        GenerateReportInput(tenant_id=tenant, report_id=str(report_id)),
        id=f"{tenant}/reports.generate/{key or report_id}",
        task_queue=Queue.DEFAULT,
    )


async def content_of(database: Database, tenant: str, report_id: UUID) -> dict[str, Any]:
    with within(database, tenant):
        async with tenant_session() as session:
            query = select(Document.content).where(
                Document.kind == REQUESTED_REPORT, Document.key == str(report_id)
            )
            content: dict[str, Any] = (await session.scalars(query)).one()
            return content


@pytest.mark.usefixtures("worker")
async def test_a_report_is_made_once_of_the_days_where_the_tenant_is(
    saas: Client, database: Database
) -> None:
    # April in New York is 04:00Z on the 1st to 04:00Z on 1 May.
    hours = ["2013-04-01T04:00Z", "2013-05-01T03:00Z", "2013-04-01T03:00Z", "2013-05-01T04:00Z"]
    await give_flights(database, "acme", *hours)
    await give_flights(database, "globex", *hours)
    report_id = await ask(database, "acme", "usage.by_route")
    made = [await generate(saas, "acme", report_id, key) for key in (1, 2)]
    assert [report.made for report in made] == [True, False]
    assert made[0].report_id == report_id
    assert await content_of(database, "acme", report_id) == {
        "kind": "usage.by_route",
        "parameters": APRIL,
        "routes": [
            {"origin": "JFK", "destination": "LAX", "events": 2, "cancelled": 1, "distance": 100}
        ],
    }
    with within(database, "acme"):
        async with tenant_session() as session:
            report = (await session.scalars(select(RequestedReport))).one()
            entries = select(AuditEntry).where(AuditEntry.action == "report.made")
            assert len((await session.scalars(entries)).all()) == 1
    assert report.status == "completed"
    assert report.completed_at is not None


@pytest.mark.usefixtures("worker")
async def test_a_report_on_invoices_has_those_of_its_months(
    saas: Client, database: Database
) -> None:
    at = datetime(2013, 1, 1, tzinfo=UTC)
    invoice = {"currency": "USD", "usage_events": 2, "period_start": at, "period_end": at}
    for tenant, cents in (("acme", 100), ("globex", 200)):
        months = [
            {**invoice, "period": f"2013-0{month}", "total_cents": cents} for month in range(1, 6)
        ]
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(insert(Invoice), months)
    asked = {"first": "2013-02", "last": "2013-03"}
    report_id = await ask(database, "acme", "invoices.by_month", asked)
    await generate(saas, "acme", report_id)
    content = await content_of(database, "acme", report_id)
    assert content["invoices"] == [
        {"period": period, "currency": "USD", "total_cents": 100, "usage_events": 2}
        for period in ("2013-02", "2013-03")
    ]


@pytest.mark.usefixtures("worker")
async def test_a_report_that_is_not_the_tenants_is_not_found(
    saas: Client, database: Database
) -> None:
    foreign = await ask(database, "acme", "usage.by_route")
    for number, report_id in enumerate([foreign, uuid4(), "17", "", "acme/1", "x' or '1'='1"]):
        with pytest.raises(WorkflowFailureError) as caught:
            await generate(saas, "globex", report_id, key=number + 1)
        failure = root_cause(caught.value.cause)
        assert type_of(failure) == "ReportNotFound"
        assert "globex has no report" in str(failure)
    with within(database, "acme"):
        async with tenant_session() as session:
            assert (await session.scalars(select(RequestedReport.status))).all() == ["requested"]


async def test_asking_writes_the_report_and_its_job_together(
    database: Database, tenants: Tenants
) -> None:
    await tenants.add("acme", "acme", plan="standard")
    with within(database, "acme"):
        async with tenant_session() as session:
            report_id = await request_report(session, "usage.by_route", APRIL)
            [message] = (await session.scalars(select(OutboxMessage))).all()
            assert message.job == "reports.generate"
            assert (message.key, message.payload) == (str(report_id), {"report_id": str(report_id)})
            await session.rollback()
        async with tenant_session() as session:
            assert (await session.scalars(select(OutboxMessage))).all() == []
            assert (await session.scalars(select(RequestedReport))).all() == []


@pytest.mark.parametrize(
    ("kind", "parameters", "complaint"),
    [
        (
            "usage",
            APRIL,
            "the kind of report is unknown. Use one of usage.by_route",
        ),
        ("usage.by_route", {}, "first: it is missing"),
        ("usage.by_route", {**APRIL, "also": 1}, "also: there is no such"),
        ("usage.by_route", {**APRIL, "last": "2013-03-31"}, "the last day is before the first"),
        ("usage.by_route", {**APRIL, "last": "2014-04-02"}, "1 to 366 days"),
        ("usage.by_route", {**APRIL, "last": "2013-04-31"}, "the calendar has no such day"),
        ("invoices.by_month", {"first": "2013-05", "last": "2013-04"}, "before the first"),
    ],
)
async def test_a_report_that_cannot_be_made_is_refused_when_it_is_asked_for(
    database: Database, kind: str, parameters: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidPayload, match=complaint):
        await ask(database, "acme", kind, parameters)
