"""A fleet: tenants of every isolation, each with data of its own, for whom every job runs."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg import Connection, sql
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from activities.notifications import MAIL_SETTING
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.stores import FileConnectionSecrets, SignUp
from tests.fixtures.outside import serving
from tests.fixtures.postgres import within
from tests.fixtures.smtp_server import Inbox, smtp_server
from tests.fixtures.starter import Starter
from tests.fixtures.worker_process import StartWorker
from tests.system.faults.checker import settled
from tests.system.faults.job_runs import (
    MEASURED,
    Partner,
    jobs,
    keep_credential,
    prepare,
    write_rows,
)
from workflows.schedules import SCHEDULES

ASKED_FOR: Final = "fleet"  # the key of a job whose input has none
OPEN: Final = ("pending", "failed", "processing")  # messages
TRIAL_ENDED: Final = datetime(2026, 1, 1, tzinfo=UTC)
OWNED_BY_STORES: Final = frozenset({"store_identity"})

_PLACE: Final = """
    select tenants.isolation, coalesce(stores.schema, 'public'), stores.name
      from tenancy.tenants left join tenancy.stores on stores.name = tenants.store
     where tenants.id = %s
"""
_TABLES: Final = """
    select table_schema, table_name
      from information_schema.columns join information_schema.tables
     using (table_schema, table_name)
     where column_name = 'tenant_id' and table_type = 'BASE TABLE' and table_schema = any(%s)
     order by 1, 2
"""
_MESSAGES: Final = """
    select tenant_id, job, key, status from tenancy.outbox_messages where tenant_id = %s
"""
# What of the library's tables is where a tenant's own rows are.
_BESIDE: Final = ("outbox_messages", "processed_events", "lock_fences")
_ELSEWHERE: Final = "select distinct tenant_id from {} where tenant_id = any(%s)"
_LETTERS: Final = "select workflow_id, error_type, message from tenancy.dead_letters"


@dataclass(frozen=True)
class Place:
    """Where a tenant's rows are."""

    isolation: Isolation
    schema: str  # of its tables
    urls: DatabaseUrls  # of its database

    @property
    def own_schemas(self) -> list[str]:
        """The schemas that have this tenant's rows alone."""
        return {
            Isolation.SHARED: [],
            Isolation.SCHEMA: [self.schema],
            Isolation.DATABASE: [self.schema, "tenancy"],
        }[self.isolation]


@dataclass
class Fleet:
    """Tenants in stores that are prepared already."""

    postgres: EmbeddedPostgres
    urls: DatabaseUrls  # of the control plane, and of the shared tables
    database: Database  # which finds each tenant's store
    connections: FileConnectionSecrets
    tenants: list[str] = field(default_factory=list)

    async def sign_up(self, isolation: Isolation, count: int, secrets: Path) -> None:
        """Adds tenants whose trial has ended, with data of their own."""
        sign_up = SignUp(self.database, self.connections)
        for number in range(1, count + 1):
            tenant = f"{isolation}-{number:02}"
            await sign_up.add(
                tenant,
                "Airline",
                plan="enterprise",
                isolation=isolation,
                status=TenantStatus.TRIAL,
                trial_ends_at=TRIAL_ENDED,
                settings={MAIL_SETTING: "ann@airline.example"},
            )
            keep_credential(secrets, tenant)
            with self.opened(self.place_of(tenant)) as everything:
                write_rows(everything, [tenant])
            self.tenants.append(tenant)

    def place_of(self, tenant: str) -> Place:
        """Returns where a tenant's rows are, by the control plane."""
        with connect(self.urls.superuser) as everything:
            [(isolation, schema, name)] = everything.execute(_PLACE, [tenant]).fetchall()
        own = isolation == Isolation.DATABASE
        return Place(Isolation(isolation), schema, self.postgres.urls(name) if own else self.urls)

    @contextmanager
    def opened(self, place: Place) -> Iterator[Connection[Any]]:
        """Opens a superuser's connection whose search path is that place."""
        with connect(place.urls.superuser) as everything:
            path = sql.SQL("set search_path to {}").format(sql.Identifier(place.schema))
            everything.execute(path)
            yield everything

    def rows_of(self, tenant: str) -> Counter[str]:
        """Returns how many rows a tenant has, by table, wherever they are."""
        place = self.place_of(tenant)
        places = {place.urls.superuser: [place.schema, "tenancy"]}
        places.setdefault(self.urls.superuser, ["tenancy"])
        found: Counter[str] = Counter()
        for url, schemas in places.items():
            with connect(url) as everything:
                for schema, table in _tables(everything, schemas):
                    query = sql.SQL("select count(*) from {} where tenant_id = %s")
                    counted = everything.execute(
                        query.format(sql.Identifier(schema, table)), [tenant]
                    ).fetchall()
                    found[table] += counted[0][0]
        return +found

    def strangers_rows(self) -> list[str]:
        """Returns what is in another tenant's store, or in the shared one and does not belong."""
        found = []
        in_shared = {each for each in self.tenants if self._is_shared(each)}
        for tenant in self.tenants:
            place = self.place_of(tenant)
            found += _foreign(place.urls.superuser, place.own_schemas, {tenant})
        found += _foreign(self.urls.superuser, ["public"], in_shared)
        apart = [
            tenant
            for tenant in self.tenants
            if self.place_of(tenant).isolation is Isolation.DATABASE
        ]
        with connect(self.urls.superuser) as everything:
            for table in _BESIDE:
                query = sql.SQL(_ELSEWHERE).format(sql.Identifier("tenancy", table))
                rows = everything.execute(query, [apart]).fetchall()
                found += [
                    f"tenancy.{table} of the control plane has rows of {tenant}."
                    for (tenant,) in rows
                ]
        return found

    def messages(self) -> list[tuple[str, str, str, str]]:
        """Returns the tenant, job, key and status of each message, from all outboxes."""
        found: list[tuple[str, str, str, str]] = []
        for tenant in self.tenants:
            with connect(self.place_of(tenant).urls.superuser) as everything:
                found += everything.execute(_MESSAGES, [tenant]).fetchall()
        return found

    def dead_letters(self) -> list[tuple[str, str, str]]:
        """Returns the workflow id, error type and message of each."""
        with connect(self.urls.superuser) as everything:
            return everything.execute(_LETTERS).fetchall()

    def _is_shared(self, tenant: str) -> bool:
        return self.place_of(tenant).isolation is Isolation.SHARED


def scheduled() -> list[str]:
    """Returns the scheduled jobs; those that trials end with are last, as others need the plan."""
    by_end = sorted(SCHEDULES, key=lambda each: each.statuses == [TenantStatus.TRIAL])
    return [each.job for each in by_end]


def asked_for() -> list[Job]:
    """Returns the jobs that no schedule starts."""
    return [job for job in jobs() if job.name not in scheduled()]


@asynccontextmanager
async def at_work(
    fleet: Fleet,
    start: StartWorker,
    connections: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> AsyncIterator[tuple[dict[str, str], Inbox]]:
    """Runs a worker with `arguments`, a relay, and all outside systems.

    Yields the variables and the mail.
    """
    partner = Partner()
    (folder / "secrets").mkdir()
    with smtp_server() as inbox:
        async with serving(partner.app) as port:
            monkeypatch.setattr(Partner, "url", f"http://127.0.0.1:{port}/records")
            variables = {
                "CONNECTIONS_URL": connections.as_uri(),
                "STORAGE_URL": (folder / "objects").as_uri(),
                "SECRETS_URL": (folder / "secrets").as_uri(),
                "SMTP_URL": inbox.url,
                "OUTGOING_HTTP_ALLOW": f"127.0.0.1:{port}",
                "WEB_URL": "https://saas.example",
                "LINK_SECRET": "only-for-this-test",
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            relaying = {"RELAY_DATABASE_URL": fleet.urls.relay, "RELAY_STORE_POLL": "PT0.1S"}
            await start(*arguments, **variables).until_ready()
            keeping = "tests.system.faults.keeping_relay"
            await start("--relay", module=keeping, **variables, **relaying).until_ready()
            yield variables, inbox


@dataclass
class Worked:
    """What all jobs of a fleet have come to."""

    ends: dict[str, dict[str, int]]  # how a tick has ended, by scheduled job
    asked: set[tuple[str, str, str]]  # tenant, job and key of what no schedule starts
    runs: list[WorkflowExecution]
    seconds: dict[str, float]  # each part has taken

    def wrong(self, fleet: Fleet) -> list[str]:
        """Returns what is not as it has to be, a sentence each."""
        count = len(fleet.tenants)
        each = {"planned": count, "succeeded": count, "failed": 0, "skipped": 0, "already": 0}
        short = [f"{job} ended as {end}." for job, end in self.ends.items() if end != each]
        missing = [f"{job} was not run." for job in sorted({*scheduled()} - {*self.ends})]
        return short + missing + wrong_in_the_end(fleet, self.runs, self.asked)


async def run_all(
    fleet: Fleet, client: Client, starter: Starter, variables: Mapping[str, str], patience: float
) -> Worked:
    """Runs every job for all tenants; `patience` is in seconds, for what is asked for to end."""
    *first, trials = scheduled()
    seconds: dict[str, float] = {}
    with timed(seconds, "scheduled jobs"):
        ends = await run_schedules(fleet, starter, variables, first)
    with timed(seconds, "event-driven jobs"):
        asked = await ask_for_jobs(fleet)
        await until_idle(fleet, client, patience)
    with timed(seconds, "ends of trials"):
        ends |= await run_schedules(fleet, starter, variables, [trials])
        runs = await until_idle(fleet, client, patience)
    return Worked(ends, asked, runs, seconds)


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Notes how long the block takes."""
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


async def run_schedules(
    fleet: Fleet, starter: Starter, variables: Mapping[str, str], names: list[str]
) -> dict[str, dict[str, int]]:
    """Runs a tick of each job over all tenants; returns how they ended, by job."""
    found = {}
    for name in names:
        given = await prepare(fleet.database, fleet.tenants[0], name)
        tick = ("--tick", given["period"]) if "period" in given else ()
        said = await starter("fan-out", name, *tick, "--wait", "--json", **variables)
        assert said.code == 0, said.err + said.out
        ends = ("planned", "succeeded", "failed", "skipped", "already")
        found[name] = {end: said.document[end] for end in ends}
    return found


async def ask_for_jobs(fleet: Fleet) -> set[tuple[str, str, str]]:
    """Asks for each other job for all tenants, with data of theirs; returns tenant, job and key."""
    asked = set()
    for tenant in fleet.tenants:
        for job in asked_for():
            given = await prepare(fleet.database, tenant, job.name)
            del given["tenant_id"]
            # As the application asks, which is the same message if it has asked already.
            keys = [str(value) for name, value in given.items() if name.endswith("_id")]
            key = keys[0] if keys else ASKED_FOR
            with within(fleet.database, tenant):
                async with tenant_session():
                    await enqueue(job.name, given, key=key)
            asked.add((tenant, job.name, key))
    return asked


async def until_idle(fleet: Fleet, client: Client, seconds: float) -> list[WorkflowExecution]:
    """Waits until no message is open and no run; returns all tenants' runs."""

    async def runs() -> list[WorkflowExecution]:
        every = [run async for run in client.list_workflows("")]
        return [run for run in every if run.id.split("/", 1)[0] != PLATFORM]

    async def idle() -> list[WorkflowExecution]:
        if any(status in OPEN for *_, status in fleet.messages()):
            return []
        found = await runs()
        # Another message may have been written meanwhile.
        still = any(run.status is WorkflowExecutionStatus.RUNNING for run in found)
        return [] if still or any(each[3] in OPEN for each in fleet.messages()) else found

    await settled(idle, bool, seconds)
    return await runs()


def wrong_in_the_end(
    fleet: Fleet, runs: list[WorkflowExecution], asked: set[tuple[str, str, str]]
) -> list[str]:
    """Returns what is not as it has to be, a sentence each."""
    found = fleet.strangers_rows()
    found += [f"{run.id} is {run.status}." for run in runs if not _is_completed(run)]
    found += [f"{letter} is a dead letter." for letter in fleet.dead_letters()]
    messages = fleet.messages()
    found += [f"{message} is open." for message in messages if message[3] != "completed"]
    found += [f"{each} is lost." for each in sorted(asked - {each[:3] for each in messages})]
    together = {job.name for job in jobs() if job.coalesce is not None}
    completed = {run.id for run in runs if _is_completed(run)}
    found += [
        f"{tenant}/{job}/{key} has no run."
        for tenant, job, key in sorted(asked)
        if job not in together and f"{tenant}/{job}/{key}" not in completed
    ]
    first, *others = fleet.tenants
    expected = _comparable(fleet.rows_of(first))
    for tenant in others:
        rows = _comparable(fleet.rows_of(tenant))
        if rows != expected:
            found.append(
                f"{tenant} has {json.dumps(rows - expected)} more than {first}, and "
                f"{json.dumps(expected - rows)} less."
            )
    return found


def _comparable(rows: Counter[str]) -> Counter[str]:
    left_out = MEASURED | OWNED_BY_STORES
    return Counter({table: count for table, count in rows.items() if table not in left_out})


def _is_completed(run: WorkflowExecution) -> bool:
    return run.status is WorkflowExecutionStatus.COMPLETED


def _tables(everything: Connection[Any], schemas: list[str]) -> list[tuple[str, str]]:
    return everything.execute(_TABLES, [schemas]).fetchall()


def _foreign(url: str, schemas: list[str], owners: set[str]) -> list[str]:
    found = []
    with connect(url) as everything:
        for schema, table in _tables(everything, schemas):
            query = sql.SQL("select distinct tenant_id from {} where tenant_id is not null")
            rows = everything.execute(query.format(sql.Identifier(schema, table))).fetchall()
            found += [
                f"{schema}.{table} has rows of {tenant}."
                for (tenant,) in rows
                if tenant not in owners
            ]
    return found
