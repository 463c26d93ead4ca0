"""The reference jobs: correct figures, in the tenant's own months, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import func, select, text
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from activities.analytics import UsageSummary
from activities.billing import InvoiceSummary
from activities.months import local_month
from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.airlines import Flight
from dev.sample_data.load import load_events
from saas.database.prices import CANCELLED, OPERATED
from saas.database.tables import DailyUsage, Invoice, InvoiceLine
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.analytics import AggregateAnalytics, AggregateAnalyticsInput
from workflows.billing import BillingCycle, BillingCycleInput

APRIL = "2013-04"


def flight(number: int, hour: str, *, cancelled: bool = False, distance: int = 100) -> Flight:
    return Flight(
        tenant_id="acme",
        time_hour=hour,
        carrier="AC",
        flight=number,
        origin="JFK",
        destination="LAX",
        tail_number=None,
        distance=distance,
        air_time=None if cancelled else 60,
        departure_delay=None,
        cancelled=cancelled,
    )


# April in New York is 04:00Z on the 1st to 04:00Z on 1 May.
FLIGHTS = [
    flight(1, "2013-04-01T03:00:00Z"),  # still March
    flight(2, "2013-04-01T04:00:00Z"),
    flight(3, "2013-04-15T12:00:00Z", cancelled=True),
    flight(4, "2013-04-15T13:00:00Z"),
    flight(5, "2013-05-01T03:00:00Z"),
    flight(6, "2013-05-01T04:00:00Z"),  # already May
]


@pytest.fixture
async def worker(saas: Client, tenants: Tenants, database: Database) -> AsyncIterator[Worker]:
    for tenant in ("acme", "empty"):
        await tenants.add(tenant, tenant, plan="enterprise", time_zone="America/New_York")
    await load_events(database, "acme", FLIGHTS)
    async with saas_worker(saas) as running:
        yield running


async def bill(client: Client, tenant: str = "acme", *, run: str = "") -> InvoiceSummary:
    return await client.execute_workflow(
        BillingCycle.run,
        BillingCycleInput(tenant_id=tenant, period=APRIL),
        id=f"{tenant}/billing.cycle/{APRIL}{run}",
        task_queue=Queue.BULK,
    )


@pytest.mark.usefixtures("worker")
async def test_an_invoice_bills_the_tenants_own_month_one_line_a_rate(
    saas: Client, database: Database
) -> None:
    invoice = await bill(saas)
    total = OPERATED.amount_cents(3) + CANCELLED.amount_cents(1)
    assert invoice == InvoiceSummary(
        period=APRIL, usage_events=4, total_cents=total, currency="USD", issued=True
    )
    with within(database, "acme"):
        async with tenant_session() as session:
            lines = (await session.execute(select(InvoiceLine.rate, InvoiceLine.quantity))).all()
    assert {line.rate: line.quantity for line in lines} == {OPERATED.name: 3, CANCELLED.name: 1}


@pytest.mark.usefixtures("worker")
async def test_billing_twice_and_side_by_side_issues_one_invoice(
    saas: Client, database: Database
) -> None:
    invoices = await asyncio.gather(*(bill(saas, run=f"-{n}") for n in range(6)))
    assert sorted(invoice.issued for invoice in invoices) == [False] * 5 + [True]
    assert len({invoice.total_cents for invoice in invoices}) == 1
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(Invoice)) == 1
            assert await session.scalar(select(func.count()).select_from(InvoiceLine)) == 2


@pytest.mark.usefixtures("worker")
async def test_an_invoice_that_breaks_half_way_leaves_nothing_for_the_next_attempt_to_find(
    saas: Client, database: Database, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("alter table invoice_lines add constraint broken check (false)")
        handle = await saas.start_workflow(
            BillingCycle.run,
            BillingCycleInput(tenant_id="acme", period=APRIL),
            id=f"acme/billing.cycle/{APRIL}",
            task_queue=Queue.BULK,
        )
        await until_an_attempt_has_failed(handle)
        assert superuser.execute("select period from invoices").fetchall() == []
        superuser.execute("alter table invoice_lines drop constraint broken")
    assert (await handle.result()).issued
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(InvoiceLine)) == 2


async def until_an_attempt_has_failed(handle: WorkflowHandle[Any, Any]) -> None:
    def has_failed(description: WorkflowExecutionDescription) -> bool:
        pending = description.raw_description.pending_activities
        return any(activity.HasField("last_failure") for activity in pending)

    while not has_failed(await handle.describe()):
        """The server notes it when the attempt has ended."""


@pytest.mark.usefixtures("worker")
async def test_a_tenant_without_usage_is_billed_zero(saas: Client) -> None:
    invoice = await bill(saas, "empty")
    assert (invoice.usage_events, invoice.total_cents, invoice.issued) == (0, 0, True)


@pytest.mark.usefixtures("worker")
async def test_usage_that_cannot_be_billed_fails_until_it_is_mended(
    saas: Client, database: Database
) -> None:
    await load_events(database, "acme", [flight(9, "2013-04-20T12:00:00Z", distance=-1)])
    with pytest.raises(WorkflowFailureError) as caught:
        await bill(saas)
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("UsageNotBillable", True)
    assert "usage events of acme in 2013-04 with a negative distance: 1." in cause.message
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(Invoice)) == 0
            await session.execute(text("delete from usage_events where distance < 0"))
    assert (await bill(saas)).issued


@pytest.mark.usefixtures("worker")
async def test_usage_is_counted_by_the_tenants_own_days_and_counted_anew_each_time(
    saas: Client, database: Database
) -> None:
    async def aggregate(run: str) -> UsageSummary:
        return await saas.execute_workflow(
            AggregateAnalytics.run,
            AggregateAnalyticsInput(tenant_id="acme", period=APRIL),
            id=f"acme/analytics.aggregate/{run}",
            task_queue=Queue.BULK,
        )

    assert await aggregate("1") == UsageSummary(period=APRIL, days=3, events=4)
    with within(database, "acme"):
        async with tenant_session() as session:
            rows = (await session.scalars(select(DailyUsage).order_by(DailyUsage.day))).all()
            assert [
                (row.day.isoformat(), row.events, row.cancelled, row.distance) for row in rows
            ] == [("2013-04-01", 1, 0, 100), ("2013-04-15", 2, 1, 100), ("2013-04-30", 1, 0, 100)]
            await session.execute(text("delete from usage_events where flight = 2"))
    assert await aggregate("2") == UsageSummary(period=APRIL, days=2, events=3)


@pytest.mark.parametrize(
    ("period", "sentence"),
    [
        ("2013-4", "a period is a month, written YYYY-MM"),
        ("2013-13", "the calendar has no such month"),
        ("9999-12", "a period must be between 0001-02 and 9999-10"),
        ("april", "a period is a month, written YYYY-MM"),
        ("2013-04-01", "a period is a month, written YYYY-MM"),
        ("", "a period is a month, written YYYY-MM"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_a_period_that_is_no_month_is_refused(
    saas: Client, period: str, sentence: str
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await raw(saas).execute_workflow(
            "billing.cycle",
            {"tenant_id": "acme", "period": period},
            id="acme/billing.cycle/x",
            task_queue=Queue.BULK,
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "InvalidPayload"
    assert f"period: {sentence}." in caught.value.cause.message


def raw(client: Client) -> Client:
    """Returns the same connection without the plugin."""
    return Client(client.service_client, namespace=client.namespace)


@pytest.mark.parametrize(
    ("period", "zone", "since", "until"),
    [
        ("2013-03", "America/New_York", "2013-03-01T05:00:00Z", "2013-04-01T04:00:00Z"),
        ("2013-11", "America/New_York", "2013-11-01T04:00:00Z", "2013-12-01T05:00:00Z"),
        ("2013-12", "UTC", "2013-12-01T00:00:00Z", "2014-01-01T00:00:00Z"),
        ("2024-02", "Asia/Kolkata", "2024-01-31T18:30:00Z", "2024-02-29T18:30:00Z"),
    ],
)
def test_a_local_month_follows_the_zones_own_clock_changes(
    period: str, zone: str, since: str, until: str
) -> None:
    assert local_month(period, zone) == (
        datetime.fromisoformat(since),
        datetime.fromisoformat(until),
    )
