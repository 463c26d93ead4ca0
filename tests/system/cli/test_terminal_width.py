"""Every command's answer on narrow and wide terminals: what is copied stays in one piece."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from rich.console import RenderableType
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from processes.cli import api_keys, environment, exports, imports, integrations, reports, search
from processes.cli.program import PROGRAM
from saas.database.contacts import Import
from saas.database.exports import Export
from saas.database.integrations import Integration
from saas.database.reports import RequestedReport
from saas.database.search import SearchDocument
from temporal_tenancy.cli import (
    Answer,
    Application,
    Login,
    _deployment_answers,
    catch_up,
    dead_letters,
    doctor,
    explanations,
    fan_outs,
    jobs,
    lines,
    outbox,
    plans,
    runs,
    schedules,
    store_migrations,
    stores,
    tenants,
    ticks,
    top,
    usage,
    use_program,
)
from temporal_tenancy.cli._layout import width_of, words_of
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.control_plane.tables import (
    LedgerState,
    StoreRow,
    StoreState,
    TickRow,
    TickState,
)
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Source, record
from temporal_tenancy.metering import Usage
from temporal_tenancy.metering._table import Key, Used, add
from temporal_tenancy.outbox.enqueueing import enqueue_or_find
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.stores import StoreMigration
from temporal_tenancy.ticks.fan_out import FanOutResult
from temporal_tenancy.ticks.fan_out.payloads import Failure
from temporal_tenancy.ticks.reconcile.missed import Missed
from tests.fixtures.postgres import within
from tests.system.cli.test_layout import WIDTHS, shown
from workflows.schedules import SCHEDULES

ROOT: Final = Path(__file__).parents[3]
COMMANDS: Final = (ROOT / "temporal_tenancy/cli", ROOT / "processes/cli")

TENANT: Final = "T" + "e" * 62
NAME: Final = "日本航空株式会社 \x1b[2J \u202e Ltd"
JOB: Final = "notifications.send"
KEY: Final = f"{'k' * 60} and a blank {'y' * 70}"
WORKFLOW_ID: Final = f"{TENANT}/{JOB}/{KEY}"
RUN_ID: Final = "0198a1b2-0000-7000-8000-00000000000a"
TICK: Final = "2013-05-01T06:00Z"
WHY: Final = "TenantSuspended: it is suspended since 2013-04-01, because it has not paid. " * 3
PARTNER: Final = "p" * 50
STORE: Final = "t_" + "9" * 61
LATER: Final = datetime.now(UTC) + timedelta(days=1)
NOW: Final = datetime(2026, 11, 27, 18, 25, 3, 123_456, UTC)

Case = Callable[[], Awaitable[tuple[Answer, list[str]]]]


@pytest.fixture
def application(
    saas: Client,
    database: Database,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Application]:
    """The reference SaaS as the commands see it, on the test's own servers."""
    monkeypatch.setenv("SECRETS_URL", tmp_path.as_uri())
    # Without the jobs that other tests of this process have declared, of which some are no jobs.
    own = {
        job.name: job
        for job in registry.values()
        if not job.workflow.__module__.startswith("tests.")
    }
    monkeypatch.setattr(registry, "_added", own)

    async def connect(_: Database | None) -> Client:
        return saas

    made = Application(
        connect=connect,
        database=lambda: Database(
            tenant_url=database_urls.tenant, platform_url=database_urls.platform
        ),
        tenant=Login("TENANT_DATABASE_URL", database_urls.tenant),
        platform=Login("PLATFORM_DATABASE_URL", database_urls.platform),
        relay=Login("RELAY_DATABASE_URL", database_urls.relay),
        owner=Login("DATABASE_URL"),
        schedules=SCHEDULES,
        queues=["bulk"],
        ui_url="http://ui.example",
    )
    with use_program(dataclasses.replace(PROGRAM, load=lambda: made)):
        yield made


@pytest.fixture
async def letter(database: Database, application: Application) -> str:
    """The id of a dead letter of a tenant with a long id; its job has a long key with blanks."""
    await Tenants(database).add(TENANT, NAME, plan="enterprise", settings={"name": NAME})
    with within(database, TENANT):
        async with tenant_session() as session:
            failed = Letter(WORKFLOW_ID, Source.WORKFLOW, "MailRefused", WHY, 5, run_id=RUN_ID)
            await record(session, failed, {"subject": NAME, "body": WHY})
            await enqueue_or_find(JOB, {"subject": "x", "body": "y", "reference": "z"}, key="waits")
            session.add_all(_rows())
    async with database.platform_session("test") as session:
        session.add(a_store())
        [found] = await letters.latest(session, Filter(), limit=2)
    return str(found.id)


def _rows() -> Iterator[Any]:
    """A row of each list of the reference SaaS, with an id of its own."""
    yield Import(
        id=UUID(RUN_ID),
        file_name=f"{NAME}.csv",
        path="x",
        size=1,
        encoding="utf-8",
        position=0,
        dry_run=True,
        started_by="tests",
    )
    yield Export(id=UUID(RUN_ID), dataset="contacts", format="csv", expires_at=LATER)
    yield RequestedReport(id=UUID(RUN_ID), kind="usage.by_route", parameters={"first": WHY})
    yield Integration(name=PARTNER, url=f"https://{PARTNER}.example/{NAME}")
    yield SearchDocument(kind="contact", ref=RUN_ID, title=NAME, body="zeppelin")


def a_store() -> StoreRow:
    """A prepared schema with the longest name."""
    where = {"schema": STORE, "role": STORE, "region": PARTNER}
    return StoreRow(name=STORE, isolation=Isolation.SCHEMA, state=StoreState.READY, **where)


def tick_row(state: TickState = TickState.ENDED) -> TickRow:
    return TickRow(
        job=JOB, tick=TICK, state=state, nominal_time=NOW, started_at=NOW, ended_at=NOW, reason=None
    )


def ledger_document() -> dict[str, Any]:
    counts = ("planned", "succeeded", "failed", "skipped", "running", "waiting", "not_started")
    states = (LedgerState.SUCCEEDED, LedgerState.FAILED)
    return {
        **dict.fromkeys(counts, 1),
        "missed": 1,
        "tenants": [{"tenant_id": TENANT, "state": state, "reason": WHY} for state in states],
    }


def cases(letter: str) -> dict[str, Case]:
    """Returns the answers, by the function that makes them, with what must be whole in each."""

    def of(*whole: str, text: Callable[[], Any]) -> Case:  # makes what rich renders
        async def case() -> tuple[Answer, list[str]]:
            made = text()
            if isinstance(made, Awaitable):
                made = await made
            return made if isinstance(made, Answer) else Answer({}, made), list(whole)

        return case

    totals = dict.fromkeys(fan_outs.COUNTS, 1)
    failures = [Failure(tenant_id=TENANT, reason=WHY)]
    result = FanOutResult.model_validate({"job": JOB, "tick": TICK, **totals, "failures": failures})
    missed = catch_up.Part(registry[JOB], tick_row(), [Missed(TENANT, LedgerState.FAILED, WHY)])
    caught_up = {"job": JOB, "tick": TICK, "missed": 1, **totals, "url": f"http://ui/{RUN_ID}"}
    return {
        "dead_letters.show_all": of(
            letter, TENANT, KEY, text=lambda: dead_letters.show_all(Filter(), 10)
        ),
        "dead_letters.show": of(
            letter, TENANT, WORKFLOW_ID, RUN_ID, text=lambda: dead_letters.show(letter, None)
        ),
        "tenants.show_all": of(TENANT, text=lambda: tenants.show_all(None)),
        "tenants.show": of(TENANT, text=lambda: tenants.show(TENANT)),
        "plans.show_all": of("enterprise", text=lambda: plans.show_all()),
        "stores.show_all": of(STORE, text=lambda: stores.show_all(None, None)),
        "stores._text": of(STORE, text=lambda: stores.show(STORE)),
        "store_migrations._planned": of(
            STORE, text=lambda: store_migrations._planned([migration()], [WHY])
        ),
        "store_migrations._reached": of(
            STORE, TENANT, text=lambda: store_migrations._reached([migration()], [WHY], {})
        ),
        "outbox.show": of(TENANT, text=lambda: outbox.show()),
        "explanations._answer": of(letter, text=lambda: explanations.explain(WORKFLOW_ID)),
        "jobs.show": of(JOB, "suspensions.release", text=lambda: jobs.show()),
        "schedules.show_all": of("billing.cycle", text=lambda: schedules.show_all()),
        "doctor.examine": of("platform jobs", text=lambda: doctor.examine()),
        "api_keys.show_all": of(TENANT, text=lambda: _keys()),
        "exports.show_all": of(RUN_ID, text=lambda: exports.show_all(tenant=TENANT, limit=9)),
        "exports.show": of(RUN_ID, text=lambda: exports.show(RUN_ID, tenant=TENANT)),
        "imports.show_all": of(RUN_ID, text=lambda: imports.show_all(tenant=TENANT, limit=9)),
        "integrations.show_all": of(
            PARTNER, text=lambda: integrations.show_all(tenant=TENANT, limit=9)
        ),
        "reports.show_all": of(RUN_ID, text=lambda: reports.show_all(tenant=TENANT, limit=9)),
        "reports._shown": of(RUN_ID, text=lambda: reports.show(RUN_ID, tenant=TENANT)),
        "reports._section": of(
            RUN_ID, text=lambda: reports._section(("made_of", [{"id": RUN_ID, "why": WHY}]))
        ),
        "search.find": of(RUN_ID, text=lambda: search.find("zeppelin", tenant=TENANT, limit=9)),
        "environment.show": of("TENANT_DATABASE_URL", text=lambda: environment.show()),
        "ticks.show_all": of("No tick has begun.", text=lambda: ticks.show_all(None, 20)),
        "ticks._text": of(TENANT, TICK, text=lambda: ticks._text(ledger_document(), tick_row())),
        "catch_up._answer": of(
            TICK, JOB, RUN_ID, text=lambda: catch_up._answer([dict(caught_up)], waited=True)
        ),
        "catch_up._shown": of(TENANT, text=lambda: lines(*catch_up._shown(missed))),
        "fan_outs._counted": of(
            TENANT, text=lambda: fan_outs._counted({"url": f"http://ui/{RUN_ID}"}, result)
        ),
        "usage.show": of(TENANT, text=lambda: _used()),
        "top._text": of(TENANT, RUN_ID, text=lambda: _top()),
        "_deployment_answers.shown": of(
            PARTNER, text=lambda: lines(*_deployment_answers.shown(_versions()))
        ),
        "runs._shown": of(RUN_ID, text=lambda: runs._shown({"id": RUN_ID, "why": WHY})),
    }


def migration() -> StoreMigration:
    """A store that has not been migrated."""
    return StoreMigration(
        STORE, Isolation.SCHEMA, (TENANT,), {}, (WHY,), wave=1, failure=WHY, given=False
    )


async def _used() -> Answer:
    """Meters an hour of the tenant, and shows it."""
    hour = datetime.now(UTC) - timedelta(hours=2)
    async with control_plane() as database:
        await add(database, {Key(TENANT, JOB, hour): Used(1.5, 0.5, 1, 1)})
    return await usage.show(None, "tenant", since=None, until=None)


def _top() -> RenderableType:
    worker = top._Worker(identity=RUN_ID, queue="bulk", version=PARTNER, seen=NOW, since=NOW)
    silent = dataclasses.replace(worker, state=top._State.SILENT)
    queue = {"queue": "bulk", "kind": "workflow", "waiting": 1, "oldest_seconds": 2.5, "workers": 1}
    fan_out = {"job": JOB, "running_seconds": 5.0, "tenants": {"succeeded": 7}}
    return top._text(
        NOW, NOW, [queue], [fan_out], [Usage(TENANT, Used(1.5, 0.5, 1, 1))], [worker, silent]
    )


def _versions() -> dict[str, Any]:
    version = {
        "build_id": PARTNER,
        "drained": False,
        "status": "current",
        "created_at": NOW,
        "running": 3,
        "workers": 1,
        "release": None,
    }
    return {"name": "saas", "versions": [version]}


async def _keys() -> Answer:
    """Creates a key and lists it: one of its lines has the tenant's id."""
    made = await api_keys.create(TENANT, NAME.split()[0])
    listed = await api_keys.show_all(TENANT)
    return Answer({}, lines(made.text, listed.text))


async def test_no_answer_breaks_what_is_copied(letter: str) -> None:
    for name, case in cases(letter).items():
        answer, whole = await case()
        for width in WIDTHS:
            _check(name, shown(answer.text, width), width, whole)


def _check(name: str, on_screen: list[str], width: int, whole: list[str]) -> None:
    for each in whole:
        assert any(each in line for line in on_screen), (name, each, on_screen)
    for line in on_screen:
        # A single word, or an id with blanks, may be longer: the terminal wraps it.
        is_one = len(words_of(line.strip())) == 1 or any(each in line for each in whole)
        assert width_of(line) <= width or is_one or RUN_ID in line, (name, width, line)
    _check_commands(name, on_screen)
    assert "\x1b" not in "".join(on_screen)
    assert "\u202e" not in "".join(on_screen)


def _check_commands(name: str, on_screen: list[str]) -> None:
    for line in on_screen:
        for command in re.finditer(r'"starter\.py ', line):
            assert '"' in line[command.end() :], (name, line)


def test_every_table_of_a_command_is_shown_here() -> None:
    """Or is a part of one that is, or has neither ids nor keys."""
    made = {
        f"{path.stem}.{function.name}"
        for folder in COMMANDS
        for path in folder.glob("*.py")
        if path.name != "answers.py"
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("table", "facts", "table_lines")
    }
    tested = set(cases(RUN_ID))
    of_the_same = {
        "dead_letters.discard",  # a table of ids, workflow ids and states
        "schedules.apply",
        "imports._answer",
        "exports.start",  # what is shown, without the id
        "integrations.sync",
        "tenants.change",
        "plans.change",  # a row of plans.show_all
        "previews._text",
        "doctor.__rich_console__",
        "requests.listed",  # of imports, exports, reports and integrations
    }
    assert made - tested - of_the_same == set()
