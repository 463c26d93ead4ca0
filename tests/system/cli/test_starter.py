"""starter.py as a process: what each command does, prints and exits with."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import Worker

from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.airlines import Flight
from dev.sample_data.load import load_events
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import STARTER, UI, Batch, Command, Said, Starter

pytestmark = pytest.mark.schedules

BROKEN = Flight(
    tenant_id="broken",
    time_hour="2013-04-15T12:00:00Z",
    carrier="BR",
    flight=1,
    origin="JFK",
    destination="LAX",
    tail_number=None,
    distance=-1,  # an impossible flight: its month is not billable
    air_time=60,
    departure_delay=None,
    cancelled=False,
)


@pytest.fixture
async def airlines(tenants: Tenants, database: Database) -> None:
    """One tenant that works, one whose April 2013 fails, and one that is suspended."""
    for name in ("acme", "broken", "sleepy"):
        await tenants.add(name, name.title(), plan="enterprise")
    await tenants.set_status("sleepy", TenantStatus.SUSPENDED)
    await load_events(database, "broken", [BROKEN])


@pytest.fixture
async def worker(saas: Client, airlines: None) -> AsyncIterator[Worker]:
    async with saas_worker(saas) as running:
        yield running


async def mend(database: Database, tenants: Tenants) -> None:
    """What a person does after reading the sentence."""
    with within(database, "broken"):
        async with tenant_session() as session:
            await session.execute(text("update usage_events set distance = 1"))
    await tenants.set_status("sleepy", TenantStatus.ACTIVE)


async def test_a_job_runs_once_and_a_second_start_returns_the_first(
    worker: Worker, cold_starter: Starter, starter: Starter, namespace: str
) -> None:
    arguments = ("run", "billing.cycle", "--tenant", "acme", "--key", "2013-04", "--wait")
    first = await cold_starter(*arguments, "--json")
    again = await cold_starter(*arguments, "--json")
    assert (first.code, again.code) == (0, 0), (first, again)
    assert first.document["started"] is True
    assert first.document["workflow_id"] == "acme/billing.cycle/2013-04"
    assert first.document["result"]["period"] == "2013-04"
    run_id = first.document["run_id"]
    page = f"{UI}/namespaces/{namespace}/workflows/acme%2Fbilling.cycle%2F2013-04/{run_id}"
    assert first.document["url"] == page
    assert again.document == {**first.document, "started": False}

    away = "postgresql+psycopg://nobody@127.0.0.1:1/saas"
    databases = {"PLATFORM_DATABASE_URL": away, "TENANT_DATABASE_URL": away}
    explained = await starter("explain", "acme/billing.cycle/2013-04", "--json", **databases)
    assert explained.code == 0, explained
    assert explained.document["status"] == "completed"
    assert explained.document["result"] == first.document["result"]
    assert explained.document["waiting_for"] == []


async def test_a_run_that_failed_is_explained_and_runs_again_as_it_says(
    worker: Worker, cold_starter: Starter, database: Database, tenants: Tenants
) -> None:
    arguments = ("run", "billing.cycle", "--tenant", "broken", "--key", "2013-04", "--wait")
    failed = await cold_starter(*arguments, "--json")
    assert failed.code == 1
    assert failed.err.startswith("UsageNotBillable: usage events of broken in 2013-04 with a")
    assert failed.document["error"]["type"] == "UsageNotBillable"
    assert failed.document["url"].startswith(UI)
    explained = await cold_starter("explain", "broken/billing.cycle/2013-04", "--json")
    assert explained.code == 0
    assert explained.document["status"] == "failed"
    assert explained.document["failure"] == failed.document["error"]
    (advice,) = explained.document["what_to_do"]
    command, _, whose = advice.partition(" runs it again, for ")
    assert whose == "broken."
    assert explained.document["dead_letter"]["id"] in command
    await mend(database, tenants)
    program, *words = shlex.split(command)
    mended = await cold_starter(*words, "--wait", "--json")
    assert program == "starter.py"
    (replayed,) = mended.document["letters"]
    assert (mended.code, replayed["outcome"], replayed["ended"]) == (0, "replayed", "succeeded")
    assert replayed["run_id"] != failed.document["run_id"]


async def test_a_fan_out_accounts_for_every_tenant_and_a_second_one_does_the_rest(
    worker: Worker, cold_starter: Starter, database: Database, tenants: Tenants
) -> None:
    arguments = ("fan-out", "billing.cycle", "--tick", "2013-04", "--wait", "--json")
    counts = ("planned", "succeeded", "failed", "skipped", "already")
    show = ("ticks", "show", "billing.cycle", "--json")
    first = await cold_starter(*arguments)
    assert first.code == 1, first
    assert [first.document[name] for name in counts] == [3, 1, 1, 1, 0]
    assert first.document["failures"][0]["tenant_id"] == "broken"
    assert first.err.startswith("TenantsFailed: billing.cycle 2013-04 failed for 1 tenant. ")
    ledger = (await cold_starter(*show)).document
    assert (ledger["tick"], ledger["planned"], ledger["missed"]) == ("2013-04", 3, 1)
    assert [tenant["state"] for tenant in ledger["tenants"]] == ["succeeded", "failed", "skipped"]
    await mend(database, tenants)
    assert (await cold_starter(*show)).document["missed"] == 2
    second = await cold_starter(*arguments)
    assert second.code == 0, second
    assert [second.document[name] for name in counts] == [3, 2, 0, 0, 1]
    assert (await cold_starter(*show)).document["missed"] == 0
    (tick,) = (await cold_starter("ticks", "list", "billing.cycle", "--json")).document
    assert (tick["tick"], tick["state"], tick["succeeded"]) == ("2013-04", "ended", 3)


async def test_only_skips_are_no_failure_and_a_filter_narrows(worker: Worker, batch: Batch) -> None:
    base = ["fan-out", "billing.cycle", "--tick", "2013-05", "--wait", "--json"]
    trial, skipped = await batch(
        [
            Command([*base, "--where", "status=trial"]),
            Command([*base, "--where", "status=suspended"]),
        ]
    )
    assert (trial.code, trial.document["planned"]) == (0, 0)
    assert (skipped.code, skipped.document["planned"], skipped.document["skipped"]) == (0, 1, 1)
    left_out, caught_up = await batch(
        [
            Command(["ticks", "missed", "billing.cycle", "--json"]),
            Command(["ticks", "catch-up", "billing.cycle", "--wait", "--json"]),
        ]
    )
    assert {each["tenant_id"] for each in left_out.document["ticks"][0]["tenants"]} == {
        "acme", "broken",
    }  # fmt: skip
    assert left_out.document["ticks"][0]["tenants"][0]["reason"].startswith("no fan-out planned it")
    assert [caught_up.document[name] for name in ("planned", "succeeded", "skipped")] == [3, 2, 1]


async def test_schedules_are_applied_paused_triggered_and_backfilled(batch: Batch) -> None:
    def schedules(*arguments: str) -> Command:
        return Command(["schedules", *arguments, "--json"])

    said = await batch(
        [
            schedules("list"),
            schedules("apply"),
            schedules("apply"),
            schedules("pause", "billing.cycle", "--reason", "audit"),
            schedules("list"),
            Command(["schedules", "list"]),
            schedules("resume", "billing.cycle"),
            schedules("list"),
            schedules("trigger", "billing.cycle"),
            schedules(
                *("backfill", "analytics.aggregate", "--from", "2013-02-01", "--to", "2014-01-01")
            ),
        ]
    )
    assert [answer.code for answer in said] == [0] * 10, said
    human = said.pop(5).out
    missing, created, unchanged, _, listed, resumed, goes_on, triggered, backfilled = (
        answer.document for answer in said
    )
    assert {schedule["state"] for schedule in missing} == {"missing"}
    assert {schedule["done"] for schedule in created["schedules"]} == {"created"}
    assert {schedule["done"] for schedule in unchanged["schedules"]} == {"unchanged"}
    billing = next(schedule for schedule in listed if schedule["job"] == "billing.cycle")
    assert (billing["state"], billing["paused"], billing["note"]) == ("applied", True, "audit")
    assert (billing["overlap"], billing["catchup_window_seconds"]) == ("buffer_all", 7 * 86_400)
    assert billing["next_run"] is None  # though the server tells when it would be due
    [billing] = [schedule for schedule in goes_on if schedule["job"] == "billing.cycle"]
    assert billing["next_run"].endswith("-01T06:00:00Z")
    whose = {schedule["job"]: schedule["local_time"] for schedule in listed}
    assert {job for job, local in whose.items() if local} == {"report.daily"}
    for documents in (missing, created["schedules"]):
        assert {each["job"]: each["local_time"] for each in documents} == whose
    words = " ".join(human.split())
    assert "report.daily 0 8 * * *, tenants' time" in words
    assert "billing.cycle 0 6 1 * *, UTC" in words
    assert resumed["paused"] is False
    assert triggered["workflow_id"].startswith("platform/billing.cycle/tick-")
    months = [f"2013-{month:02}" for month in range(1, 13)]
    assert [run["tick"] for run in backfilled["runs"]] == months
    assert backfilled["runs"][0]["workflow_id"] == (
        "platform/analytics.aggregate/tick-2013-02-01T06:00:00Z"
    )


async def test_tenants_are_added_listed_suspended_and_resumed(batch: Batch) -> None:
    said = await batch(
        [
            Command(["tenants", *arguments, "--json"])
            for arguments in (
                ("add", "acme", "--plan", "free", "--status", "trial", "--feature", "reports"),
                ("suspend", "acme", "--reason", "unpaid"),
                ("list", "--status", "suspended"),
                ("resume", "acme"),
                ("show", "acme"),
            )
        ]
    )
    assert [answer.code for answer in said] == [0] * 5, said
    added, suspended, listed, resumed, shown = (answer.document for answer in said)
    assert (added["status"], added["plan"], added["features"]) == ("trial", "free", ["reports"])
    assert listed == [suspended]
    nothing = ("status_reason", "paused_reason", "paused_since", "concurrency_cap")
    assert shown == {**resumed, **dict.fromkeys(nothing)}
    assert resumed["status"] == "trial"


async def test_a_run_without_a_worker_is_explained(airlines: None, batch: Batch) -> None:
    away: dict[str, str | None] = {"PLATFORM_DATABASE_URL": "postgresql://someone@127.0.0.1:1/x"}
    started, unasked, explained, human = await batch(
        [
            Command(["run", "billing.cycle", "--tenant", "acme", "--key", "2013-04", "--json"]),
            Command(["explain", "acme/billing.cycle/2013-05", "--json"], away),
            Command(["explain", "acme/billing.cycle/2013-04", "--json"]),
            Command(["explain", "acme/billing.cycle/2013-04"]),
        ]
    )
    assert "result" not in started.document
    assert unasked.code == 3, unasked
    assert unasked.document["error"]["type"] == "NotReachable"
    assert explained.document["status"] == "running"
    assert explained.document["tenant_id"] == "acme"
    assert explained.document["waiting_for"][0].startswith('no worker serves the queue "bulk".')
    assert human.out.startswith("what       billing.cycle of acme, 2013-04: ")


DOCTOR = {
    "temporal": r"127\.0\.0\.1:\d+ answers; its version is \d+\.\d+\.\S+\.",
    "namespace": r'"\S+" keeps closed runs for \d+ days?\.',
    "schedules": r'platform/\S+ is missing, .*: "starter\.py schedules list" shows how; '
    r'"starter\.py schedules apply" puts workflows/schedules\.py in force\.',
    "relay": r"none is connected, and RELAY_DATABASE_URL is not set; only an outbox needs one\.",
    "workers of bulk": r'no worker serves the queue "bulk"\. '
    r'Start one: "worker\.py --queue bulk"\.',
    "role tenancy_tenant": r"logs in to \S+:\d+/\S+, and has no excess rights\.",
    "role tenancy_relay": r"RELAY_DATABASE_URL is not set; only a relay needs it\.",
    "migrations": r"all are applied\.",
    "row-level security": r"the catalogue lint finds nothing wrong\.",
    "logins": r"no role can log in without a password\.",
    "clock": r"this machine and the database agree\.",
    "stores": r"all tenants share one store\.",
    "drift": r'what the migrations make is not known\. "starter\.py migrate" finds it out\.',
    "tenant directory": r"tenancy_platform can read it\.",
    "time zones": r"every tenant's is known to Python and to PostgreSQL\.",
    "running processes": r"none has said that it runs\.",
}
"""What it says of a sound installation without workers, by check."""


def messages_of(said: Said) -> dict[str, str]:
    """Returns what a doctor says, by check."""
    return {check["name"]: check["message"] for check in said.document["checks"]}


async def test_the_doctor_says_what_is_wrong(
    airlines: None, batch: Batch, database_urls: DatabaseUrls
) -> None:
    def verdicts(said: Said) -> dict[str, str]:
        return {check["name"]: check["verdict"] for check in said.document["checks"]}

    whole, broken = await batch(
        [
            Command(["doctor", "--json"]),
            Command(
                ["doctor", "--json"],
                {"TENANT_DATABASE_URL": database_urls.owner, "TEMPORAL_ADDRESS": "127.0.0.1:1"},
            ),
        ]
    )
    assert whole.code == 1
    assert whole.err.startswith("ChecksFailed: 4 of 25: platform jobs, workers of critical, ")
    found = verdicts(whole)
    assert found.pop("schedules") == "warning"
    for name in (
        *("role tenancy_relay", "relay", "code of workers", "activities"),
        *("running processes", "drift"),
    ):
        assert found.pop(name) == "skipped"
    assert {name for name, verdict in found.items() if verdict != "ok"} == {
        "platform jobs",
        "workers of critical",
        "workers of default",
        "workers of bulk",
    }
    said = messages_of(whole)
    for name, pattern in DOCTOR.items():
        assert re.fullmatch(pattern, said[name]), (name, said[name])
    found = verdicts(broken)
    assert (broken.code, found["temporal"], found["namespace"]) == (1, "failed", "skipped")
    assert found["role tenancy_tenant"] == "failed"
    assert re.fullmatch(
        r"TENANT_DATABASE_URL logs in as \w+\. Log in as tenancy_tenant\.",
        messages_of(broken)["role tenancy_tenant"],
    )


async def test_the_doctor_says_what_is_wrong_in_the_database(
    airlines: None, batch: Batch, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute(b"alter table invoices no force row level security")
        owner.execute(b"grant select on tenancy.plans to public")
        owner.execute(b"update tenancy.tenants set time_zone = 'Mars/Phobos' where id = 'acme'")
    nothing: dict[str, str | None] = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
    faulty, unset = map(
        messages_of,
        await batch(
            [
                Command(["doctor", "--json"], {"TENANT_DATABASE_URL": None, **nothing}),
                Command(["doctor", "--json"], {"PLATFORM_DATABASE_URL": None, **nothing}),
            ]
        ),
    )
    assert faulty["role tenancy_tenant"].startswith("TENANT_DATABASE_URL is not set. ")
    assert faulty["row-level security"].startswith("the catalogue lint finds faults:\n")
    assert faulty["open rights"].startswith("beside those faults:\n")
    assert faulty["time zones"] == (
        "1 tenant in a time zone that not every part knows: acme (Mars/Phobos). Their jobs are "
        "skipped. Give each an IANA name, such as Asia/Bangkok."
    )
    assert unset["role tenancy_platform"].startswith("PLATFORM_DATABASE_URL is not set. ")
    for name in ("migrations", "row-level security", "open rights", "logins", "clock"):
        assert unset[name] == "tenancy_platform cannot log in."
    assert unset["running processes"] == "the processes cannot be read."
    assert unset["time zones"] == unset["tenant directory"] == "the tenants cannot be read."


async def test_the_doctor_says_why_the_time_zones_are_not_known(
    airlines: None, batch: Batch, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute(b"revoke select on pg_timezone_names from public")
    [said] = await batch([Command(["doctor", "--json"], {"TEMPORAL_ADDRESS": "127.0.0.1:1"})])
    assert messages_of(said)["time zones"] == (
        "PostgreSQL does not list its own: permission denied for view pg_timezone_names "
        "(SQLSTATE 42501)."
    )


async def test_jobs_tells_what_each_job_takes(batch: Batch) -> None:
    (said,) = await batch([Command(["jobs", "--json"])])
    billing = next(job for job in said.document if job["name"] == "billing.cycle")
    assert (billing["queue"], billing["schedule"]) == ("bulk", "0 6 1 * *")
    assert set(billing["input"]["required"]) == {"tenant_id", "period"}
    elsewhere = {job["name"] for job in said.document if job["queue"] is None}
    assert elsewhere == {"doctor.probe", "fan_out.shard", "fan_out.tick", "messages.work_off"}


async def on_a_terminal(arguments: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """Runs starter.py on its own terminal; returns the exit code and all output."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, STARTER, *arguments),
        env=environ | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    def read() -> bytes:
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            return shown  # Linux's way of saying that the other side is closed
        return shown

    shown = await asyncio.to_thread(read)
    os.close(ours)
    return await process.wait(), shown.decode()


async def test_the_progress_bar_is_for_terminals_only(
    worker: Worker, starter: Starter, starter_environ: dict[str, str]
) -> None:
    arguments = ["fan-out", "billing.cycle", "--tick", "2013-06", "--wait"]
    code, shown = await on_a_terminal(arguments, starter_environ)
    assert code == 0
    assert "━" in shown
    assert "billing.cycle 2013-06: 3 tenants" in shown
    piped = await starter(*arguments)
    assert piped.code == 0
    assert "━" not in piped.out + piped.err
    assert "\x1b" not in piped.out + piped.err


@pytest.mark.parametrize("arguments", ["--help", "outbox --help", "run --tenannt ua", "frobnicate"])
def test_help_and_what_is_mistyped_need_none_of_the_servers_libraries(arguments: str) -> None:
    heavy = {"temporalio", "sqlalchemy", "psycopg"}
    assert not heavy & set(_imported_by(arguments.split()))


def _imported_by(arguments: list[str]) -> list[str]:
    import subprocess

    program = (
        f"import sys; from processes.cli.app import main; main({arguments}); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(STARTER).parent,
    )
    return done.stdout.splitlines()[-1].split()
