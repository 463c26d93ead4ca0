"""`make demo`: the main jobs on real data, start to end, and an attempt to break their isolation.

It works in a temporary folder and stops everything it started. It exits with 0 only if every claim
that it prints holds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from dev import local_saas
from dev.demo_messages import show_messages
from dev.demo_stage import NotHeld, command, console, hold, title, with_database
from dev.devstack.errors import PartMissing
from dev.devstack.postgres import DATABASE
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import Stack, without_servers
from dev.local_saas import CommandFailed, Program
from dev.own_stores import ISOLATION_OF, prepare_stores
from dev.sample_data.airlines import airlines, flights
from dev.sample_data.load import load_events, make_up_tenants, unbillable_flight
from temporal_tenancy import (
    Database,
    Isolation,
    ScopeMissing,
    TenantMismatch,
    TenantScope,
    TenantStatus,
    enter,
    tenant_session,
    use_database,
)
from temporal_tenancy.cli import exit_process
from temporal_tenancy.control_plane import Tenants
from temporal_tenancy.core import duration, number

JOBS: Final = ("billing.cycle", "analytics.aggregate")
MONTHS: Final = 12
COUNTED: Final = ("billed", "counted", "invoices", "cents")
BROKEN: Final = "f9"  # Frontier: a flight with a negative distance
SUSPENDED: Final = "ha"  # Hawaiian
BROKEN_MONTH: Final = "2013-04"
BROKEN_NOMINAL: Final = "2013-05-01"  # when April's tick was due
NIGHTLY: Final = (
    ("retention.enforce",),
    ("cleanup.expired",),
    ("trial.expiry",),
    ("report.daily", "--tick", "2013-03-10"),  # New York put the clock forward
    ("audit.aggregate",),
)
MADE_UP: Final = 6  # tenants, two of each plan
MADE_UP_EVENTS: Final = 2_500  # for each, in January 2013: three batches
TRIAL: Final = "trial"
PATIENCE_SECONDS: Final = 180.0  # without progress
POLL_SECONDS: Final = 0.25


def main() -> int:
    """Runs the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=0, help="made-up tenants to add")
    count = parser.parse_args().tenants
    began = time.monotonic()

    def say_stop(times: int) -> None:
        if times == 1:
            console.print("\nStopping.")

    scratch = tempfile.TemporaryDirectory(prefix="temporal-tenancy-demo-")
    with orderly_stop(say_stop), scratch as folder:
        try:
            environ = without_servers(os.environ)
            with Stack(
                Path(folder), environ=environ, ui_port=None, durable=False, outside=True
            ) as stack:
                _run(stack, count)
        except PartMissing as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 3
        except (NotHeld, CommandFailed) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    console.print(
        f"\n[bold]All of it held[/], in {duration(timedelta(seconds=time.monotonic() - began))}."
    )
    return 0


def _run(stack: Stack, made_up: int) -> None:
    title("The data: flights of 16 airlines from New York in 2013")
    command(stack, "migrate", "--harden", "--yes", owner=True)
    prepare_stores(stack, partial(command, stack, owner=True))
    console.print("[dim]loading…[/]")
    loaded = local_saas.load_sample_data(stack, ISOLATION_OF)
    console.print(
        f"  {number(len(loaded), 'tenant')}, {number(sum(loaded.values()), 'usage event')}; "
        "JetBlue's in a schema, Frontier's in a database, the others' in shared tables."
    )
    with local_saas.worker(stack) as worker:
        command(stack, "schedules", "apply")
        console.print(f"  Web UI, while this runs: {stack.environment()['TEMPORAL_UI_URL']}")
        _one_month_with_trouble(stack)
        _all_months(stack)
        _totals(stack)
        if made_up:
            _more_tenants(stack, made_up)
        _every_night(stack)
        _load_curve(stack)
        show_messages(stack)
        _isolation(stack, worker)


def _one_month_with_trouble(stack: Stack) -> None:
    title(f"{BROKEN_MONTH}, with one tenant suspended and one whose usage cannot be billed")
    command(stack, "tenants", "suspend", SUSPENDED)
    asyncio.run(with_database(stack, _break_usage))
    days = ("--from", BROKEN_NOMINAL, "--to", BROKEN_NOMINAL)
    command(stack, "schedules", "backfill", "billing.cycle", *days)
    _wait(stack, {"billing.cycle": 1})
    shown = command(stack, "ticks", "show", "billing.cycle", "--tick", BROKEN_MONTH)
    _ledger(shown)
    hold(
        (shown["succeeded"], shown["failed"], shown["skipped"]) == (14, 1, 1),
        "14 tenants succeeded, one failed, one was skipped",
    )
    title("Both causes are fixed, and the missed tenants are caught up")
    command(stack, "tenants", "resume", SUSPENDED)
    asyncio.run(with_database(stack, _mend_usage))
    missed = command(stack, "ticks", "missed")
    _missed(missed)
    hold(
        [each["tenant_id"] for tick in missed["ticks"] for each in tick["tenants"]]
        == [BROKEN, SUSPENDED],
        "the two tenants without an invoice for April are named",
    )
    again = command(stack, "ticks", "catch-up", "--wait")
    console.print(
        f"  {again['succeeded']} succeeded, {again['failed']} failed, "
        f"{again['already']} had succeeded before."
    )
    hold(
        (again["succeeded"], again["failed"], again["already"]) == (2, 0, 14),
        "catching up ran two and left fourteen alone",
    )
    hold(command(stack, "ticks", "missed")["missed"] == 0, "now no tenant is missed")


def _all_months(stack: Stack) -> None:
    title("Both jobs for all twelve months of 2013, by backfilling their schedules")
    for job in JOBS:
        command(stack, "schedules", "backfill", job, "--from", "2013-02-01", "--to", "2014-01-01")
    _wait(stack, dict.fromkeys(JOBS, MONTHS))


def _totals(stack: Stack) -> None:
    title("Billed and counted flights, compared with the data set")
    of_data = Counter(flight.tenant_id for flight in flights())
    rows = asyncio.run(with_database(stack, _billed))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("tenant", "airline", "flights", "billed", "by day", "invoices", "USD"):
        words = heading in ("tenant", "airline")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    total: Counter[str] = Counter()
    for airline in sorted(airlines(), key=lambda a: -of_data[a.tenant_id]):
        row = rows[airline.tenant_id]
        expected = of_data[airline.tenant_id]
        total.update({"flights": expected, **{name: row[name] for name in COUNTED}})
        table.add_row(
            airline.tenant_id,
            airline.name,
            f"{expected:,}",
            *(f"{row[name]:,}" for name in ("billed", "counted", "invoices")),
            f"{row['cents'] / 100:,.2f}",
        )
        hold(row["billed"] == row["counted"] == expected, f"{airline.name}'s totals agree", False)
        hold(row["invoices"] == MONTHS, f"{airline.name} has one invoice a month", False)
    table.add_row(
        "", "all", *(f"{total[n]:,}" for n in ("flights", "billed", "counted", "invoices")),
        f"{total['cents'] / 100:,.2f}", style="bold",
    )  # fmt: skip
    console.print(table)
    hold(total["billed"] == 336_776, "all 336,776 flights are billed, and counted by day")
    hold(
        {tenant: row["isolation"] for tenant, row in rows.items()}
        == {tenant: ISOLATION_OF.get(tenant, Isolation.SHARED) for tenant in rows},
        "JetBlue's rows are in a schema of its own, Frontier's in a database, all others' shared",
    )


def _more_tenants(stack: Stack, count: int) -> None:
    title(
        f"{number(count, 'more tenant')}, made up: January is billed for them, and for nobody twice"
    )

    async def make_up(database: Database) -> None:
        await make_up_tenants(database, count, events=10)

    asyncio.run(with_database(stack, make_up))
    done = command(stack, "fan-out", "billing.cycle", "--tick", "2013-01", "--wait")
    console.print(
        f"  {done['succeeded']} succeeded, {done['already']} had succeeded before, "
        f"{done['failed']} failed."
    )
    hold((done["succeeded"], done["already"]) == (count, 16), "each made-up tenant was billed")


def _every_night(stack: Stack) -> None:
    title("The other nightly jobs, for made-up tenants; the airlines keep their data")
    asyncio.run(with_database(stack, _make_up_some))
    asyncio.run(with_database(stack, _add_trial))
    before = asyncio.run(with_database(stack, _events))
    for job, *options in NIGHTLY:
        done = command(stack, "fan-out", job, *options, "--wait")
        console.print(
            f"  {done['succeeded']} succeeded, {done['failed']} failed, {done['skipped']} skipped."
        )
        hold(done["planned"] == done["succeeded"] + done["skipped"], f"{job} failed for no tenant")
    after = asyncio.run(with_database(stack, _events))
    kept = {tenant for tenant, events in after.items() if events}
    hold(
        {tenant: after[tenant] for tenant in kept} == {tenant: before[tenant] for tenant in kept}
        and any(before[tenant] and not after[tenant] for tenant in after),
        "retention deleted only what is past it: United has its "
        f"{number(after['ua'], 'usage event')}",
    )
    ended = command(stack, "tenants", "show", TRIAL)
    hold(
        ended["status"] == "suspended",
        "the trial that was over is suspended, because nobody subscribed",
    )


def _load_curve(stack: Stack) -> None:
    title("What the schedules will start in the next 24 hours")
    command(stack, "schedules", "preview", text=True)


def _isolation(stack: Stack, worker: Program) -> None:
    title("Isolation: each of these is tried on the running system")
    asyncio.run(with_database(stack, lambda database: _database_says_no(stack, database)))
    asyncio.run(_temporal_says_no(stack))
    hold(
        "DATABASE_URL" not in worker.environment(),
        "the running worker's environment has no owner credentials",
    )
    with local_saas.relay(stack):
        checks = command(stack, "doctor")["checks"]
    failed = [check for check in checks if check["verdict"] == "failed"]
    hold(not failed, f"doctor finds no fault in {number(len(checks), 'check')}")


async def _database_says_no(stack: Stack, database: Database) -> None:
    everything = text("select count(*), count(distinct tenant_id) from usage_events")
    with use_database(database):
        with enter(TenantScope("ua")):
            async with tenant_session() as session:
                seen = (await session.execute(everything)).one()
            hold(tuple(seen) == (58_665, 1), "a query without a filter sees only United's rows")
            await _refused(_insert_for("dl"), TenantMismatch, "United cannot write a row for Delta")
        await _refused(
            _insert_for("dl"), ScopeMissing, "without a tenant nothing is sent to the database"
        )
    addresses = stack.environment()
    bare = addresses["TENANT_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(bare) as connection:
        cursor = await connection.execute("select count(*) from usage_events")
        hold(await cursor.fetchone() == (0,), "and if it were, it would see no rows")
    parts = psycopg.conninfo.conninfo_to_dict(bare)
    for role in ("tenancy_tenant", "tenancy_platform", "tenancy_owner", "postgres"):
        try:
            await psycopg.AsyncConnection.connect(
                host=str(parts["host"]), port=int(str(parts["port"])), dbname="saas", user=role,
                password="",
            )  # fmt: skip
        except psycopg.OperationalError:
            continue
        raise NotHeld(f"{role} logged in without a password")
    hold(True, "no role logs in without its password")


async def _temporal_says_no(stack: Stack) -> None:
    raw = await Client.connect(stack.environment()["TEMPORAL_ADDRESS"])
    for what, workflow_id, tenant, error_type in (
        ("a start for United under Delta's id", "dl/billing.cycle/x", "ua", "TenantMismatch"),
        ("a start without a tenant", "ua/billing.cycle/x", None, "TenantMissing"),
        ("a start for an unknown tenant", "nobody/billing.cycle/x", "nobody", "TenantUnknown"),
    ):
        job_input = {"period": "2013-01"} | ({"tenant_id": tenant} if tenant else {})
        try:
            await raw.execute_workflow(
                "billing.cycle", job_input, id=workflow_id, task_queue="bulk"
            )
        except WorkflowFailureError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else None
            cause = cause or getattr(error.cause, "cause", None)
            hold(getattr(cause, "type", None) == error_type, f"{what} fails: {error_type}")
        else:
            raise NotHeld(f"{what} was accepted")


def _insert_for(tenant: str) -> Callable[[], Awaitable[None]]:
    async def insert() -> None:
        async with tenant_session() as session:
            statement = "insert into daily_usage values (:tenant, '2013-01-01', 0, 0, 0, 0)"
            await session.execute(text(statement), {"tenant": tenant})

    return insert


async def _refused(act: Callable[[], Awaitable[None]], by: type[Exception], what: str) -> None:
    try:
        await act()
    except by:
        hold(True, what)
    else:
        raise NotHeld(what)


async def _break_usage(database: Database) -> None:
    await load_events(database, BROKEN, [unbillable_flight(BROKEN)])


async def _mend_usage(database: Database) -> None:
    with use_database(database), enter(TenantScope(BROKEN)):
        async with tenant_session() as session:
            await session.execute(text("delete from usage_events where distance < 0"))


async def _make_up_some(database: Database) -> None:
    await make_up_tenants(database, MADE_UP, events=MADE_UP_EVENTS)


async def _add_trial(database: Database) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await Tenants(database).add(
        TRIAL,
        "An airline that tried",
        plan="standard",
        status=TenantStatus.TRIAL,
        trial_ends_at=yesterday,
    )


async def _events(database: Database) -> Mapping[str, int]:
    found = {}
    tenants = [tenant.id async for tenant in Tenants(database).list()]
    for tenant in tenants:
        with use_database(database), enter(TenantScope(tenant)):
            async with tenant_session() as session:
                count = await session.scalar(text("select count(*) from usage_events"))
        found[tenant] = int(count or 0)
    return found


async def _billed(database: Database) -> Mapping[str, Mapping[str, Any]]:
    invoiced = text("""
        select coalesce(sum(usage_events), 0)::bigint as billed,
               coalesce(sum(total_cents), 0)::bigint as cents,
               count(*) as invoices
          from invoices
    """)
    counted = text("select coalesce(sum(events), 0)::bigint as counted from daily_usage")
    isolation = text("""
        select case when current_database() <> :shared then 'database'
                    when current_schema() <> 'public' then 'schema'
                    else 'shared' end as isolation
    """).bindparams(shared=DATABASE)
    found = {}
    for airline in airlines():
        with use_database(database), enter(TenantScope(airline.tenant_id)):
            async with tenant_session() as session:
                rows = [(await session.execute(query)).mappings().one()
                        for query in (invoiced, counted, isolation)]  # fmt: skip
        found[airline.tenant_id] = {key: value for row in rows for key, value in row.items()}
    return found


def _wait(stack: Stack, ticks: Mapping[str, int]) -> None:
    """Shows the number of finished tenants until each job has `ticks[job]` ended ticks."""

    async def watch(database: Database) -> None:
        query = text("""
            select job, count(*) filter (where state = 'ended') as ended
              from tenancy.ticks where job = any (:jobs) group by job
        """)
        rows = text("""
            select count(*) filter (where state not in ('planned', 'running'))
              from tenancy.ledger where job = any (:jobs)
        """)
        parameters = {"jobs": list(ticks)}
        progress = Progress(
            TextColumn("  tenants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        with progress:
            task = progress.add_task("", total=16 * sum(ticks.values()))
            seen, since = -1, time.monotonic()
            while True:
                async with database.platform_session("watch the ledger") as session:
                    found = (await session.execute(query, parameters)).all()
                    done = int((await session.scalar(rows, parameters)) or 0)
                progress.update(task, completed=done)
                if len(found) == len(ticks) and all(row.ended >= ticks[row.job] for row in found):
                    break
                if done != seen:
                    seen, since = done, time.monotonic()
                elif time.monotonic() - since > PATIENCE_SECONDS:
                    raise NotHeld(
                        f"no progress for {PATIENCE_SECONDS:.0f} s at {number(done, 'tenant')}"
                    )
                await asyncio.sleep(POLL_SECONDS)
        console.print(f"  {number(done, 'run has', 'runs have')} ended.")

    asyncio.run(with_database(stack, watch))


def _ledger(shown: Mapping[str, Any]) -> None:
    for row in shown["tenants"]:
        if row["state"] != "succeeded":
            console.print(f"  {row['tenant_id']}  {row['state']:10} {row['reason']}")


def _missed(shown: Mapping[str, Any]) -> None:
    for tick in shown["ticks"]:
        for tenant in tick["tenants"]:
            console.print(f"  {tenant['tenant_id']}  {tenant['state']:10} {tenant['reason']}")


if __name__ == "__main__":
    exit_process(main())
