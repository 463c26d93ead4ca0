"""The checker accepts a correct tick, and finds each fault in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import make_url
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.load import make_up_tenants
from saas.queues import Queue
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.fixtures.saas import saas_worker
from tests.system.faults.checker import Rows, Tick, problems
from tests.system.faults.usage import load_month
from workflows.billing import BillingCycle, BillingCycleInput

PERIOD = "2013-04"
JOBS = {"billing": "billing.cycle", "analytics": "analytics.aggregate"}

# The change to the database, the job in whose tick it shows, and the checker's sentence.
WRONG = {
    "an invoice twice": (
        "billing",
        """
        alter table invoices drop constraint pk_invoices cascade;
        insert into invoices select * from invoices where tenant_id = 't00001'
        """,
        "t00001's invoices (events, cents) are [(2, 25), (2, 25)], not [(2, 25)].",
    ),
    "a line too many": (
        "billing",
        """
        insert into invoice_lines
        select tenant_id, period, 'flights.again', quantity, unit_price_micros, amount_cents
          from invoice_lines where tenant_id = 't00001' and rate = 'flights.operated'
        """,
        "t00001's invoice lines are [('flights.again', 2, 25), ('flights.cancelled', 0, 0), "
        "('flights.operated', 2, 25)], not",
    ),
    "a lost invoice": (
        "billing",
        "delete from invoices where tenant_id = 't00002'",
        "t00002's invoices (events, cents) are [], not",
    ),
    "lost lines": (
        "billing",
        "delete from invoice_lines where tenant_id = 't00002'",
        "t00002's invoice lines are [], not",
    ),
    "another tenant's total": (
        "billing",
        """
        update invoices set total_cents = (
            select total_cents from invoices where tenant_id = 't00003'
        ) where tenant_id = 't00002'
        """,
        "t00002's invoices (events, cents) are [(3, 40)], not [(3, 38)].",
    ),
    "an effect that the ledger does not know": (
        "billing",
        "update tenancy.ledger set state = 'skipped', reason = 'so' where tenant_id = 't00002'",
        "t00002's invoices (events, cents) are [(3, 38)], not [].",
    ),
    "another tenant's event": (
        "billing",
        """
        update usage_events set tenant_id = 't00002'
         where tenant_id = 't00001' and flight = 0
        """,
        "1 usage events of T00001 are t00002's.",
    ),
    "a day counted twice": (
        "analytics",
        "update daily_usage set events = events * 2 where tenant_id = 't00002'",
        "t00002's days are [('2013-04-01', '2', ",
    ),
    "a lost day": (
        "analytics",
        "delete from daily_usage where tenant_id = 't00002' and day <> '2013-04-01'",
        "t00002's days are [('2013-04-01', '1', '0', '102', '62')], not",
    ),
    "a day of one that was skipped": (
        "analytics",
        "update daily_usage set tenant_id = 't00001' where tenant_id = 't00002'",
        "t00001's days are [('2013-04-01', '1', '0', '102', '62'), ",
    ),
    "a tenant that is not in the ledger": (
        "billing",
        "delete from tenancy.ledger where tenant_id = 't00003'",
        "t00003 has 0 rows in the ledger, not 1.",
    ),
    "a row of nobody in the ledger": (
        "billing",
        "update tenancy.ledger set tenant_id = 't00009' where tenant_id = 't00003'",
        "t00009 has 1 rows in the ledger, not 0.",
    ),
    "a row without an end": (
        "billing",
        "update tenancy.ledger set state = 'running' where tenant_id = 't00002'",
        "t00002 is still running in the ledger.",
    ),
    "a failure without a reason": (
        "billing",
        "update tenancy.ledger set state = 'failed' where tenant_id = 't00002'",
        "t00002 is failed without a reason.",
    ),
    "a tick without an end": (
        "billing",
        "update tenancy.ticks set state = 'running'",
        "the tick's own rows are ['running'].",
    ),
    "another's workflow": (
        "billing",
        "update tenancy.ledger set workflow_id = 't00001/billing.cycle/2013-04'",
        "t00002's workflow in the ledger is t00001/billing.cycle/2013-04.",
    ),
    "a failure that Temporal does not know": (
        "billing",
        "update tenancy.ledger set state = 'failed', reason = 'so' where tenant_id = 't00002'",
        "t00002 failed by the ledger; Temporal says COMPLETED.",
    ),
    "a run that Temporal does not know": (
        "billing",
        "update tenancy.ledger set run_id = gen_random_uuid()::text where tenant_id = 't00002'",
        "t00002 succeeded by the ledger; Temporal says it has no such run.",
    ),
    "a success that the ledger does not know": (
        "analytics",
        "update tenancy.ledger set state = 'skipped', reason = 'so' where tenant_id = 't00002'",
        "t00002 has 1 successful runs, not 0.",
    ),
}


@pytest.fixture
async def ticks(saas: Client, database: Database) -> None:
    """A correct tick of each job."""
    tenants = await make_up_tenants(database, 3)
    await load_month(database, tenants, PERIOD)
    async with saas_worker(saas):
        for job in JOBS.values():
            await saas.execute_workflow(
                FanOut.run,
                FanOutInput(job=job, tick=PERIOD),
                id=f"platform/{job}/tick-{PERIOD}",
                task_queue=Queue.BULK,
            )


@pytest.fixture
async def everything(ticks: None, database_urls: DatabaseUrls) -> AsyncIterator[Rows]:
    """The superuser's connection; its open transaction is rolled back."""
    url = make_url(database_urls.superuser).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False), row_factory=dict_row
    ) as connection:
        yield connection
        await connection.rollback()


async def test_it_finds_each_wrong_and_nothing_else(everything: Rows, saas: Client) -> None:
    for job in JOBS.values():
        assert await problems(everything, saas, Tick(job, PERIOD)) == []
    missed = []
    for name, (job, wrong, sentence) in WRONG.items():
        await everything.execute(wrong)
        found = await problems(everything, saas, Tick(JOBS[job], PERIOD), settle=0.0)
        await everything.rollback()
        if not any(each.startswith(sentence) for each in found):
            missed.append((name, found))
    assert missed == []


async def test_it_finds_an_open_workflow(everything: Rows, saas: Client) -> None:
    await saas.start_workflow(
        BillingCycle.run,
        BillingCycleInput(tenant_id="t00001", period="2013-05"),
        id="t00001/billing.cycle/2013-05",
        task_queue=Queue.BULK,
    )
    tick = Tick(JOBS["billing"], PERIOD)
    # The list lags: it may not have it at once.
    async with asyncio.timeout(30):
        while not (found := await problems(everything, saas, tick, settle=1.0)):
            pass
    assert found == ["t00001/billing.cycle/2013-05 is open."]
