"""A doctor's probe goes through outbox, relay and workers, and finds what is wrong with them."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.cli import _probe_checks
from temporal_tenancy.cli._code_checks import code_checks
from temporal_tenancy.cli._probe_checks import _Outcome, _Probing, _workers, probe_checks
from temporal_tenancy.cli._verdicts import Check
from temporal_tenancy.cli._workers import pollers
from temporal_tenancy.cli.program import (
    Application,
    Login,
    Program,
    current_application,
    use_program,
)
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.deployments.polling import KINDS
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.outbox import Relay
from temporal_tenancy.outbox.inspection import backlogs
from temporal_tenancy.outbox.probe.evidence import Evidence
from temporal_tenancy.outbox.probe.messages import ProbeMessages, forget_letters
from temporal_tenancy.outbox.probe.workflow import (
    NAME,
    ProbeAnswer,
    ProbeInput,
    ProbeReport,
    digests,
)
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.revisions import revisions_of
from temporal_tenancy.sdk.code_checks import activities_called
from tests.fixtures.app import another_client, app_worker
from tests.fixtures.jobs import probed_jobs
from tests.fixtures.jobs.probed_jobs import QUEUE
from tests.fixtures.relay import ask, messages_of, running

PATIENCE = timedelta(seconds=30)  # of what answers, on a busy machine
SHORT = timedelta(seconds=1)


@pytest.fixture
def doctor(app: Client, database: Database, database_urls: DatabaseUrls) -> Iterator[None]:
    """The program of an application with the queue `probed`."""

    async def connect(_: Database | None) -> Client:
        return app

    def load() -> Application:
        return Application(
            connect=connect,
            database=lambda: Database(platform_url=database_urls.platform),
            tenant=Login("TENANT_URL", database_urls.tenant),
            platform=Login("PLATFORM_URL", database_urls.platform),
            relay=Login("RELAY_URL", database_urls.relay),
            owner=Login("OWNER_URL"),
            queues=[QUEUE],
        )

    with use_program(Program(load=load)):
        yield


@pytest.fixture
async def relay(make_relay: Callable[..., Relay]) -> AsyncIterator[Relay]:
    """A running relay, which deletes completed messages soon."""
    async with running(make_relay(keep_completed=timedelta(0))) as relay:
        await relay.until_running()
        yield relay


@pytest.fixture
async def worker(app: Client) -> AsyncIterator[Worker]:
    """A worker of all jobs and activities of the queue."""
    async with probed_worker(app) as worker:
        yield worker


@asynccontextmanager
async def probed_worker(client: Client, **options: Any) -> AsyncIterator[Worker]:
    """Runs a worker of the queue; the server knows of it when the block begins."""
    defaults = {
        "task_queue": QUEUE,
        "workflows": probed_jobs.WORKFLOWS,
        "activities": probed_jobs.ACTIVITIES,
    }
    async with app_worker(client, **{**defaults, **options}) as worker:
        while not all([await pollers(client, QUEUE, kind) for kind in KINDS]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield worker


async def checks(patience: timedelta = PATIENCE) -> dict[str, Check]:
    return {check.name: check for check in await probe_checks(patience)}


def verdicts(found: dict[str, Check]) -> dict[str, str]:
    print(found)  # a failure shows the messages
    return {name: str(check.verdict) for name, check in found.items()}


@contextmanager
def superuser(urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(urls.superuser.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def probes_left(urls: DatabaseUrls) -> int:
    with superuser(urls) as connection:
        query = "select count(*) from tenancy.outbox_messages where tenant_id = 'platform'"
        [(count,)] = connection.execute(query).fetchall()
        return int(count)


async def until_none_is_left(urls: DatabaseUrls) -> None:
    while await asyncio.to_thread(probes_left, urls):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_all_is_well_and_no_tenant_notices(
    doctor: None, relay: Relay, worker: Worker, database: Database, database_urls: DatabaseUrls
) -> None:
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    await ask(database, "acme", at=in_an_hour)
    before = [vars(message) for message in await messages_of(database, "acme")]
    found = await checks()
    assert verdicts(found) == {
        "relay": "ok",
        f"workers of {QUEUE}": "ok",
        "code of workers": "ok",
        "activities": "ok",
    }
    assert re.fullmatch(
        r"a relay started the probe \d+\.\d s after its commit\.", found["relay"].message
    )
    listed = "the workers list every activity that their jobs name."
    assert found["activities"].message == listed
    after = [vars(message) for message in await messages_of(database, "acme")]
    assert [_columns(row) for row in after] == [_columns(row) for row in before]
    assert probes_left(database_urls) == 0


async def test_doctors_at_once_do_not_disturb_each_other(
    doctor: None, relay: Relay, worker: Worker, database_urls: DatabaseUrls
) -> None:
    several = await asyncio.gather(*(checks() for _ in range(3)))
    assert {str(check.verdict) for found in several for check in found.values()} == {"ok"}
    assert probes_left(database_urls) == 0


async def test_without_a_relay_the_workers_are_asked_all_the_same(
    doctor: None, worker: Worker
) -> None:
    found = await checks()
    assert verdicts(found) == {
        "relay": "failed",
        f"workers of {QUEUE}": "ok",
        "code of workers": "ok",
        "activities": "ok",
    }
    assert found["relay"].message.startswith("no relay is connected to the database")


async def test_without_a_worker_the_relay_is_asked_all_the_same(doctor: None, relay: Relay) -> None:
    found = await checks()
    assert verdicts(found) == {
        "relay": "ok",
        f"workers of {QUEUE}": "failed",
        "code of workers": "skipped",
        "activities": "skipped",
    }


async def test_a_locked_outbox_does_not_stop_the_doctor(
    doctor: None, relay: Relay, worker: Worker, database_urls: DatabaseUrls
) -> None:
    with superuser(database_urls) as connection, connection.transaction():
        connection.execute("lock table tenancy.outbox_messages in share mode")
        found = await checks()
    assert str(found["relay"].verdict) == "failed"
    assert "the outbox cannot be used: canceling statement" in found["relay"].message
    assert str(found[f"workers of {QUEUE}"].verdict) == "ok"


async def test_a_relay_that_refuses_the_probe_is_told_of(
    doctor: None, app: Client, database_urls: DatabaseUrls
) -> None:
    probing = _Probing(current_application(), app, SHORT)
    key = uuid.uuid4().hex
    ProbeMessages(database_urls.tenant, Installation()).write({key: ProbeInput(queue=QUEUE)})
    with superuser(database_urls) as connection:
        connection.execute(
            "update tenancy.outbox_messages"
            " set error_message = 'UnknownJob: doctor.probe is no job.'"
        )
    check = await probing._not_relayed([key])
    assert (str(check.verdict), check.message) == (
        "failed",
        "a relay could not start the probe: UnknownJob: doctor.probe is no job. If the relay is "
        "of an earlier release, restart it with this one's code.",
    )


async def test_what_cannot_be_probed_is_skipped_and_says_why(
    doctor: None, app: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = current_application()

    async def said(**changes: Any) -> dict[str, str]:
        changed = replace(whole, **changes)
        with use_program(Program(load=lambda: changed)):
            return {name: check.message for name, check in (await checks(SHORT)).items()}

    no_url = await said(tenant=Login("TENANT_URL"))
    assert no_url["relay"] == "TENANT_URL is not set; the probe is written with it."
    no_outbox = await said(features=[])
    assert no_outbox["relay"] == "the plugin has no outbox, whose feature answers probes."

    async def refuse(*_: object) -> None:
        raise RPCError("not like that", RPCStatusCode.INVALID_ARGUMENT, b"")

    monkeypatch.setattr(_probe_checks, "pollers", refuse)
    assert (await said())["relay"] == "Temporal refused the probe: not like that."


async def test_what_a_killed_doctor_leaves_is_gone_once_a_relay_has_taken_it(
    doctor: None, relay: Relay, database_urls: DatabaseUrls
) -> None:
    messages = ProbeMessages(database_urls.tenant, Installation())
    messages.write({uuid.uuid4().hex: ProbeInput(queue="nobody")})
    async with asyncio.timeout(10):
        await until_none_is_left(database_urls)


async def test_what_no_relay_takes_is_gone_with_the_next_doctor(
    doctor: None, database_urls: DatabaseUrls
) -> None:
    messages = ProbeMessages(database_urls.tenant, Installation())
    messages.write({"old": ProbeInput(queue="nobody")})
    with superuser(database_urls) as connection:
        connection.execute(
            "update tenancy.outbox_messages set created_at = now() - interval '11 minutes'"
        )
    messages.write({"new": ProbeInput(queue="nobody")})
    assert set(messages.states(["old", "new"])) == {"new"}


async def test_a_worker_without_a_job_is_older(doctor: None, app: Client) -> None:
    async with probed_worker(app, workflows=[probed_jobs.First]) as worker:
        found = await checks()
    identity = worker.config()["identity"] or app.identity
    assert str(found["code of workers"].verdict) == "failed"
    message = found["code of workers"].message
    assert message.startswith(f"{identity} does not know probed.second. ")


async def test_an_activity_that_no_worker_lists_is_named(doctor: None, app: Client) -> None:
    # Each worker alone may be so; a worker that serves both is not built.
    workflows = app_worker(
        app, task_queue=QUEUE, workflows=probed_jobs.WORKFLOWS, no_remote_activities=True
    )
    activities = probed_worker(app, workflows=[], activities=[probed_jobs.first_effect])
    async with workflows, activities:
        found = await checks()
    assert str(found["activities"].verdict) == "failed"
    message = found["activities"].message
    assert message.startswith("no worker lists second_effect (of probed.second): ")


async def test_a_worker_of_a_release_without_the_probe_is_older(
    doctor: None, app: Client, database: Database
) -> None:
    earlier = await another_client(app, TenancyPlugin(database=database, features=[]))
    async with probed_worker(earlier):
        found = await checks(SHORT)
    check = found[f"workers of {QUEUE}"]
    assert str(check.verdict) == "warning"
    assert "does not know the probe" in check.message


async def test_the_platform_can_ask_for_nothing_but_a_probe(
    relay: Relay, database_urls: DatabaseUrls
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("billing.cycle", {}),
        (NAME, {}),
        (NAME, {"queue": ""}),
        (NAME, {"queue": "x", "answers": 10**9}),
        (NAME, {"queue": "x", "extra": 1}),
        (NAME, {"queue": "x", "tenant_id": "acme"}),
    ]
    with superuser(database_urls) as connection:
        for number, (job, payload) in enumerate(asked):
            connection.execute(
                "insert into tenancy.outbox_messages (tenant_id, job, key, payload) "
                "values ('platform', %s, %s, %s)",
                [job, str(number), json.dumps(payload)],
            )
        query = "select status from tenancy.outbox_messages"
        refused = [("dead_letter",)] * len(asked)
        async with asyncio.timeout(10):
            while connection.execute(query).fetchall() != refused:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert connection.execute("select count(*) from tenancy.dead_letters").fetchall() == [(0,)]


async def test_a_tenant_cannot_ask_for_a_probe(
    relay: Relay, two_tenants: None, database: Database, database_urls: DatabaseUrls
) -> None:
    with superuser(database_urls) as connection:
        connection.execute(
            "insert into tenancy.outbox_messages (tenant_id, job, key, payload) "
            "values ('acme', %s, 'x', '{\"queue\": \"x\"}')",
            [NAME],
        )
        query = "select status, error_type from tenancy.outbox_messages"
        async with asyncio.timeout(10):
            while connection.execute(query).fetchall() != [  # noqa: ASYNC110
                ("dead_letter", "UnknownJob")
            ]:
                await asyncio.sleep(0.05)


async def test_a_waiting_probe_is_no_tenants_backlog(
    database_urls: DatabaseUrls, relay_database: Database
) -> None:
    ProbeMessages(database_urls.tenant, Installation()).write({"x": ProbeInput(queue="nobody")})
    async with relay_database.platform_session("look at the backlogs") as session:
        assert await backlogs(session) == []


async def test_the_letters_of_earlier_releases_are_forgotten(
    database: Database, database_urls: DatabaseUrls
) -> None:
    with superuser(database_urls) as connection:
        connection.execute(
            "insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type,"
            " message, fingerprint, attempts)"
            " select tenant, %s, 'relay', tenant || '/doctor.probe/x', 'UnknownJob', 'm',"
            " repeat('f', 16), 1"
            " from unnest(array['platform', 'acme']) as tenant",
            [NAME],
        )
        await forget_letters(database)
        left = connection.execute("select tenant_id from tenancy.dead_letters").fetchall()
    assert left == [("acme",)]


def answer(**changes: Any) -> ProbeAnswer:
    """The answer of a worker with this program's code, but for the changes."""
    jobs = digests(job for job in registry.values() if job.queue == QUEUE)
    values: dict[str, Any] = {
        "identity": "1@host",
        "jobs": jobs,
        "activities": ["first_effect", "second_effect"],
        "revisions": {CONTROL_PLANE.name: revisions_of(CONTROL_PLANE)[0]},
    }
    return ProbeAnswer(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, "ok", "know the jobs and migrations"),
        ({"jobs": {}}, "failed", "1@host does not know probed.first, probed.second."),
        (
            {"jobs": {"probed.first": "other", "probed.second": "other"}},
            "warning",
            "1@host takes another input for probed.first, probed.second.",
        ),
        (
            {"revisions": {CONTROL_PLANE.name: "0001"}},
            "warning",
            "1@host knows the control plane up to 0001, and this program to",
        ),
        # A later release's worker is no fault.
        ({"revisions": {CONTROL_PLANE.name: "9999", "another": "1"}}, "ok", "know the jobs"),
        ({"identity": "\x1b[31m1@host", "jobs": {}}, "failed", "\\x1b[31m1@host does not know"),
    ],
)
def test_older_code_is_named(changes: dict[str, Any], verdict: str, words: str) -> None:
    jobs, _ = code_checks({QUEUE: [answer(**changes)]})
    assert str(jobs.verdict) == verdict
    assert words in jobs.message


ONE = {"1@host"}


@pytest.mark.parametrize(
    ("evidence", "answers", "lost", "verdict", "words"),
    [
        (Evidence(answered=ONE), 1, 0, "ok", "1 worker answered within 2.0 s."),
        # One of two hangs.
        (Evidence(silent={"2@host"}, answered=ONE), 3, 1, "failed", "2@host took a probe"),
        (Evidence(silent=ONE), None, 0, "failed", "1@host took a probe"),
        (Evidence(strangers=ONE), None, 0, "warning", "1@host does not know the probe"),
        (Evidence(answered=ONE, activity_waits=True), 0, 1, "warning", "no slot for an activity"),
        (Evidence(answered=ONE), None, 0, "warning", "is overloaded"),
        (Evidence(), None, 0, "failed", "nobody took the probe"),
        (Evidence(silent={f"{n}@host" for n in range(9)}), None, 0, "failed", " and 6 more took"),
        (Evidence(silent={"\x1b[2J"}), None, 0, "failed", "\\x1b[2J took"),
    ],
)
def test_what_came_back_is_one_sentence(
    evidence: Evidence, answers: int | None, lost: int, verdict: str, words: str
) -> None:
    report = None
    if answers is not None:
        report = ProbeReport(answers=[answer()] * answers, lost=lost, refused=0)
    check = _workers(QUEUE, ONE, _Outcome(report, 2.0, evidence))
    assert str(check.verdict) == verdict
    assert words in check.message


def test_activities_are_judged_only_if_every_queue_answered() -> None:
    lacking = [answer(activities=[])]
    _, judged = code_checks({QUEUE: lacking})
    _, unjudged = code_checks({QUEUE: lacking, "another": []})
    assert (str(judged.verdict), str(unjudged.verdict)) == ("failed", "skipped")


def test_an_answer_of_a_later_release_is_read() -> None:
    later = {**answer().model_dump(), "something_new": 1}
    assert ProbeAnswer.model_validate(later) == answer()


def test_the_activities_that_a_job_calls_are_found_in_its_code() -> None:
    called = {
        name: activities_called(registry[name].workflow)
        for name in ("probed.first", "probed.second")
    }
    assert called == {"probed.first": {"first_effect"}, "probed.second": {"second_effect"}}


def test_the_platform_is_no_tenant() -> None:
    assert PLATFORM == "platform"  # in the statements of this file


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("_")}
