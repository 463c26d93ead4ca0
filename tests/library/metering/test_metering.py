"""What each tenant's jobs use is written by the hour, and adds up to what the process used."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError
from temporalio import activity
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.observations import (
    AttemptEnded,
    ConnectionHeld,
    Observation,
    RunEnded,
    Work,
    add_observer,
    remove_observer,
)
from temporal_tenancy.metering import _meter as meters
from temporal_tenancy.metering import _table as table
from temporal_tenancy.metering import metered, metering, usage
from temporal_tenancy.metering._meter import OTHER, Meter
from temporal_tenancy.metering._table import Used
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.transactions import tenant_transaction
from temporal_tenancy.sdk.interceptors._logging_inbound import _DEFERRED, LoggingActivityInbound
from tests.fixtures.app import app_plugin, app_worker
from tests.fixtures.jobs import relay_jobs
from tests.fixtures.jobs.relay_control import Control, until
from tests.fixtures.jobs.relay_jobs import Noted
from tests.fixtures.postgres import within

HOUR = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SPAN: dict[str, Any] = {
    "since": datetime(2026, 3, 1, tzinfo=UTC),
    "until": datetime(2026, 3, 2, tzinfo=UTC),
}


def attempt(tenant: str | None, job: str = "test.note", seconds: float = 2.0) -> AttemptEnded:
    return AttemptEnded(Work(tenant, None, job, "bulk"), "failed", seconds, None)


@pytest.fixture
def meter() -> Meter:
    return Meter(clock=lambda: HOUR)


async def test_what_is_observed_is_written_by_tenant_job_and_hour(
    database: Database, meter: Meter
) -> None:
    for observation in (
        attempt("acme"),
        attempt("acme", seconds=0.5),
        attempt("acme", job="test.other"),
        attempt("globex"),
        attempt(None),
        ConnectionHeld("tenant", "acme", "test.note", 0.25),
        ConnectionHeld("tenant", "acme", None, 0.5),
        RunEnded("acme", "test.note", "bulk", "failed", 9),
        RunEnded("acme", "test.note", "bulk", "continued", 9),
    ):
        meter.observe(observation)
    await meter.flush(database)
    await meter.flush(database)  # which has nothing more to write
    by_tenant = {each.name: each.used for each in await usage(database, **SPAN)}
    assert list(by_tenant) == ["acme", "globex", "platform"]
    acme = by_tenant["acme"]
    assert acme == Used(worker_seconds=4.5, database_seconds=0.75, attempts=3, workflows=1)
    by_job = {
        each.name: each.used for each in await usage(database, tenant="acme", by="job", **SPAN)
    }
    assert {job: used.worker_seconds for job, used in by_job.items()} == {
        "test.note": 2.5,
        "test.other": 2.0,
        "": 0.0,
    }
    later: dict[str, Any] = {"since": HOUR, "until": HOUR + timedelta(days=9)}
    assert await usage(database, **later) == []  # the hour began before that


async def test_two_processes_add_to_the_same_rows(database: Database, meter: Meter) -> None:
    others = Meter(clock=lambda: HOUR)
    for each in (meter, others):
        for tenant in ("globex", "acme"):
            each.observe(attempt(tenant))
    await asyncio.gather(meter.flush(database), others.flush(database))
    assert {each.name: each.used.attempts for each in await usage(database, **SPAN)} == {
        "acme": 2,
        "globex": 2,
    }


async def test_what_cannot_be_written_is_kept_for_the_next_time(
    database: Database, meter: Meter
) -> None:
    gone = Database(platform_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    meter.observe(attempt("acme"))
    with pytest.raises(DatabaseUnreachable):
        await meter.flush(gone)
    await gone.dispose()
    meter.observe(attempt("acme"))
    await meter.flush(database)
    [acme] = await usage(database, **SPAN)
    assert acme.used.worker_seconds == 4.0


def test_without_a_database_only_so_many_sums_are_kept(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "KEYS", 2)
    for number in range(5):
        meter.observe(attempt("acme", job=f"job.{number}"))
    assert {key.job: sums.attempts for key, sums in meter._sums.items()} == {
        "job.0": 1,
        "job.1": 1,
        OTHER: 3,
    }


async def test_neither_tenants_nor_the_relay_read_what_was_metered(
    database: Database, database_urls: DatabaseUrls, meter: Meter
) -> None:
    meter.observe(attempt("acme"))
    await meter.flush(database)
    for url in (database_urls.tenant, database_urls.relay):
        with (
            psycopg.connect(url.replace("+psycopg", "")) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("select * from tenancy.metered_hours")


@dataclass
class Stopwatch(Interceptor):
    """Measures each attempt itself, outside everything else."""

    seconds: list[float] = field(default_factory=list)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        watch = self

        class Measured(ActivityInboundInterceptor):
            async def execute_activity(self, input: ExecuteActivityInput) -> Any:
                began = time.perf_counter()
                try:
                    return await self.next.execute_activity(input)
                finally:
                    watch.seconds.append(time.perf_counter() - began)

        return Measured(next)


@pytest.fixture
async def metered_app(
    temporal: TemporalDevServer, database: Database, namespace: str, tenants: Tenants
) -> Client:
    for tenant in ("acme", "globex", "initech"):
        await tenants.add(tenant, tenant, plan="standard")
    plugin = app_plugin(database, metering(database, every=timedelta(seconds=0.2)))
    return await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])


async def test_the_sum_over_tenants_is_what_the_process_measured(
    metered_app: Client, database: Database, work_control: Control
) -> None:
    before = datetime.now(UTC)
    watch = Stopwatch()
    tenants = ("acme", "acme", "globex", "initech", "initech")
    work_control.holding = set(tenants)
    async with app_worker(
        metered_app,
        workflows=relay_jobs.WORKFLOWS,
        activities=relay_jobs.ACTIVITIES,
        interceptors=[watch],
    ):
        runs = [
            await metered_app.start_workflow(
                "test.note",
                Noted(tenant_id=tenant),
                id=f"{tenant}/test.note/{uuid.uuid4()}",
                task_queue="bulk",
            )
            for tenant in tenants
        ]
        await until(lambda control: control.running.total() == len(tenants))
        work_control.released.set()
        await asyncio.gather(*(run.result() for run in runs))
    span: dict[str, Any] = {
        "since": before - timedelta(hours=2),
        "until": before + timedelta(hours=2),
    }
    rows = {each.name: each.used for each in await usage(database, **span)}
    total = sum(used.worker_seconds for used in rows.values())
    assert total == pytest.approx(sum(watch.seconds), rel=0.02)
    assert sum(used.attempts for used in rows.values()) == len(watch.seconds)
    counts = {name: used.workflows for name, used in rows.items() if used.workflows}
    assert counts == {"acme": 2, "globex": 1, "initech": 2}
    assert all(rows[tenant].database_seconds > 0 for tenant in counts)


@contextmanager
def watched_connections() -> Iterator[list[float]]:
    """Keeps how long each tenant's connection was held, as the process measures it."""
    seconds: list[float] = []

    def keep(observation: Observation) -> None:
        if isinstance(observation, ConnectionHeld) and observation.pool == "tenant":
            seconds.append(observation.seconds)

    add_observer(keep)
    try:
        yield seconds
    finally:
        remove_observer(keep)


async def test_the_database_seconds_of_tenants_are_what_the_process_measured(
    database: Database,
) -> None:
    before = datetime.now(UTC)

    async def hold(tenant: str, seconds: float) -> None:
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(text("select pg_sleep(:s)"), {"s": seconds})

    async with metered(database, every=timedelta(hours=1)):
        with watched_connections() as seconds:
            await asyncio.gather(hold("acme", 0.3), hold("globex", 0.2), hold("acme", 0.1))
    rows = await usage(
        database, since=before - timedelta(hours=1), until=before + timedelta(hours=1)
    )
    by_tenant = {row.name: row.used.database_seconds for row in rows}
    assert len(seconds) == 3
    # The rest is the platform's, which has looked up where the tenants' rows are.
    used = by_tenant["acme"] + by_tenant["globex"]
    assert used == pytest.approx(sum(seconds), rel=0.02)
    assert by_tenant["acme"] > by_tenant["globex"]


async def test_several_workers_of_a_process_count_each_thing_once(database: Database) -> None:
    from temporal_tenancy.core.observations import observe

    long_ago = timedelta(hours=1)
    async with metered(database, every=long_ago), metered(database, every=long_ago):
        observe(attempt("acme"))
    observe(attempt("acme"))  # nobody meters any more
    span: dict[str, Any] = {
        "since": datetime.now(UTC) - timedelta(hours=2),
        "until": datetime.now(UTC) + timedelta(hours=1),
    }
    assert {e.name: e.used.attempts for e in await usage(database, **span) if e.name == "acme"} == {
        "acme": 1
    }


async def test_a_transaction_on_a_connection_of_the_applications_own_is_metered(
    database: Database, database_urls: DatabaseUrls
) -> None:
    held: list[Observation] = []
    url = make_url(database_urls.tenant).set(drivername="postgresql").render_as_string(False)
    keep = held.append  # one object, which is removed again
    add_observer(keep)
    began = time.monotonic()
    try:
        with within(database, "acme"):
            with psycopg.connect(url) as connection, tenant_transaction(connection):
                connection.execute("select pg_sleep(0.02)")
                with tenant_transaction(connection):  # a savepoint is not counted again
                    pass
            async with await psycopg.AsyncConnection.connect(url) as other:
                with pytest.raises(ZeroDivisionError):
                    async with tenant_transaction(other):
                        raise ZeroDivisionError
    finally:
        remove_observer(keep)
    took = time.monotonic() - began
    own = [each for each in held if isinstance(each, ConnectionHeld)]
    assert [(each.pool, each.tenant_id) for each in own] == [("application", "acme")] * 2
    assert own[0].seconds >= 0.02
    assert sum(each.seconds for each in own) <= took


async def test_while_the_database_fails_no_flood_of_tenants_adds_sums_without_end(
    database: Database, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "KEYS", 10)
    counted = 0

    async def fails(*_: object) -> None:
        nonlocal counted
        for _number in range(50):  # while it is being written
            meter.observe(attempt(f"t{counted}"))
            counted += 1
        raise OSError("lost")

    with monkeypatch.context() as patched:
        patched.setattr(table, "add", fails)
        meter.observe(attempt("acme"))
        for _turn in range(5):
            with pytest.raises(OSError, match="lost"):
                await meter.flush(database)
            assert len(meter._sums) <= 16
    await meter.flush(database)
    used = {each.name: each.used.attempts for each in await usage(database, **SPAN)}
    assert sum(used.values()) == counted + 1
    assert len(used) <= 16
    assert used["platform"] > 200


async def test_a_process_that_ends_in_the_middle_of_a_flush_writes_it_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, written, go = Meter(), asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> None:
        await add(*arguments)
        written.set()
        await go.wait()

    add = table.add
    monkeypatch.setattr(table, "add", slowly)
    async with meter.metering(database, timedelta(milliseconds=1)):
        meter.observe(attempt("acme"))
        await written.wait()
        asyncio.get_running_loop().call_later(0.05, go.set)
    assert await attempts_of(database, "acme") == 1


async def test_what_was_written_before_the_connection_was_lost_is_not_written_again(
    database: Database, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses_the_answer(*arguments: Any) -> None:
        await add(*arguments)
        raise OSError("lost")

    async def loses_the_commit(
        _: Database, sums: object, committing: Callable[[int], None]
    ) -> None:
        async with database.platform_session("a test") as session:
            await session.execute(text("delete from tenancy.metered_hours"))
            committing((await session.scalars(table._TRANSACTION)).one())
            raise OSError("lost")

    add = table.add
    for lost, expected in ((loses_the_answer, 1), (loses_the_commit, 2)):
        meter.observe(attempt("acme"))
        with monkeypatch.context() as patched:
            patched.setattr(table, "add", lost)
            with pytest.raises(OSError, match="lost"):
                await meter.flush(database)
        await meter.flush(database)
        used = {each.name: each.used.attempts for each in await usage(database, **SPAN)}
        assert used == {"acme": expected}


async def attempts_of(database: Database, tenant: str) -> int:
    """Returns a tenant's attempts of the last hours."""
    now = datetime.now(UTC)
    span: dict[str, Any] = {"since": now - timedelta(hours=2), "until": now + timedelta(hours=1)}
    return sum(each.used.attempts for each in await usage(database, tenant=tenant, **span))


async def test_an_attempt_that_something_else_completes_later_is_counted(
    database: Database,
) -> None:
    class Defers(ActivityInboundInterceptor):
        def __init__(self) -> None:
            pass

        async def execute_activity(self, input: ExecuteActivityInput) -> Any:
            activity.raise_complete_async()

    async def run() -> None:
        given = ExecuteActivityInput(fn=run, args=[], executor=None, headers={})
        await LoggingActivityInbound(Defers()).execute_activity(given)

    seen: list[Observation] = []
    keep = seen.append
    add_observer(keep)
    try:
        with within(database, "acme"), pytest.raises(_DEFERRED):
            await ActivityEnvironment().run(run)
    finally:
        remove_observer(keep)
    [ended] = [each for each in seen if isinstance(each, AttemptEnded)]
    assert (ended.work.tenant_id, ended.outcome) == ("acme", "deferred")


@pytest.mark.parametrize("odd", ["'NaN'", "'Infinity'", "-1", "1e300"])
async def test_sums_that_are_no_numbers_are_refused(database: Database, odd: str) -> None:
    with pytest.raises(IntegrityError):
        async with database.platform_session("a test") as session:
            await session.execute(
                text(
                    "insert into tenancy.metered_hours (tenant_id, job, hour, worker_seconds)"
                    f" values ('acme', '', now(), {odd})"
                )
            )


async def test_sums_of_the_largest_numbers_are_read_and_added_to(
    database: Database, meter: Meter
) -> None:
    async with database.platform_session("a test") as session:
        await session.execute(
            text("""
                insert into tenancy.metered_hours
                select 'acme', job, '2026-03-01 12:00Z', 1, 1, 1000000000000000, 1
                from unnest(array['test.note', 'test.other']) as job
            """)
        )
    meter.observe(attempt("acme"))
    await meter.flush(database)
    [acme] = await usage(database, **SPAN)
    assert acme.used.attempts == 2_000_000_000_000_000
