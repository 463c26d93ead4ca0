"""The HTTP API: jobs are requested, looked up, and replayed in their tenant after a failure."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus

from dev.devstack.postgres import DatabaseUrls
from processes.web.door import OPEN_JOBS
from processes.web.runs import Runs
from saas.database.search import SearchDocument
from saas.database.tables import Document
from temporal_tenancy import registry
from temporal_tenancy.control_plane._api_keys import ApiKeys
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.hostile_messages import HOSTILE as HOSTILE_ROWS
from tests.fixtures.hostile_messages import insert_hostile, take_walls_away
from tests.fixtures.relay import messages_of, running
from tests.fixtures.saas import entries_of, saas_worker
from tests.fixtures.starter import Starter
from tests.fixtures.web import CONTACT, Web, answering, problem_of
from tests.system.web import web_jobs

STARTER = ("-m", "tests.system.web.web_jobs_too")
FINE = {"input": {"kind": "contact", "ref": str(CONTACT)}}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, `test.wanted` fails."""
    path = tmp_path / "broken"
    monkeypatch.setenv(web_jobs.BROKEN, str(path))
    path.touch()
    return path


async def until_status(client: httpx.AsyncClient, address: str, status: str) -> dict[str, Any]:
    """Polls until a run has this status."""
    while True:
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        if answer.json()["status"] == status:
            found: dict[str, Any] = answer.json()
            return found
        await asyncio.sleep(0.05)


async def test_a_job_is_asked_for_once_a_key_and_waits(web: Web) -> None:
    later = datetime.now(UTC) + timedelta(days=3)
    async with web.client("acme") as client:
        first = await client.post("/jobs/search.index", json={**FINE, "key": "a/b ü"})
        again = await client.post("/jobs/search.index", json={**FINE, "key": "a/b ü"})
        timed = await client.post("/jobs/search.index", json={**FINE, "at": later.isoformat()})
        state = await client.get(first.json()["links"]["self"])
    assert [answer.status_code for answer in (first, again, timed)] == [202, 202, 202]
    assert first.json()["message_id"] == again.json()["message_id"]
    assert timed.json()["key"] == timed.json()["message_id"]
    assert state.json() == {
        "job": "search.index",
        "key": "a/b ü",
        "status": "waiting",
        "error": None,
        "links": first.json()["links"],
    }
    at_once, scheduled = await messages_of(web.door.database, "acme")
    assert (at_once.key, at_once.tenant_id) == ("a/b ü", "acme")
    assert scheduled.scheduled_at == later


async def test_a_job_with_a_period_has_it_as_its_key(web: Web) -> None:
    async with web.client("acme") as client:
        named = await client.post("/jobs/analytics.aggregate", json={"key": "2013-04"})
        unnamed = await client.post("/jobs/analytics.aggregate", json={})
    assert named.json()["key"] == "2013-04"
    assert len(unnamed.json()["key"]) == len("2013-04")
    message = (await messages_of(web.door.database, "acme"))[0]
    assert message.payload == {"period": "2013-04"}


async def test_a_second_request_is_told_of_the_first_and_another_input_is_refused(
    web: Web,
) -> None:
    later = datetime.now(UTC) + timedelta(days=3)
    await give_document(web, "acme", "other")
    other = {"input": {"kind": "document", "ref": "note/other"}, "key": "k"}
    async with web.client("acme") as client:
        first = await client.post(
            "/jobs/search.index", json={**FINE, "key": "k", "at": later.isoformat()}
        )
        again = await client.post("/jobs/search.index", json={**FINE, "key": "k"})
        taken = await client.post("/jobs/search.index", json=other)
    assert (first.json()["added"], again.json()["added"]) == (True, False)
    assert again.status_code == 202
    assert again.json()["status"] == "waiting"
    assert datetime.fromisoformat(again.json()["scheduled_at"]) == later
    assert (taken.status_code, problem_of(taken)) == (409, "KeyTaken")


@pytest.mark.parametrize(
    ("job", "sent", "status", "problem"),
    [
        ("analytics.aggregate", {"json": {"key": "2013-4"}}, 422, "InvalidPayload"),
        ("analytics.aggregate", {"json": {"key": "by-client"}}, 422, "InvalidPayload"),
        ("analytics.aggregate", {"json": {"key": "2013-04", "input": {"period": "2013-05"}}}, 422,
         "InvalidPayload"),
        ("search.index", {"json": {**FINE, "key": ""}}, 422, "KeyInvalid"),
        ("billing.cycle", {"json": {}}, 404, "JobUnknown"),
        ("contacts.import", {"json": FINE}, 404, "JobUnknown"),
        ("no.job", {"json": FINE}, 404, "JobUnknown"),
        ("search.index", {"json": {"input": {}}}, 422, "InvalidPayload"),
        ("search.index", {"json": {**FINE, "tenant_id": "globex"}}, 422, "InvalidPayload"),
        (
            "search.index",
            {"json": {"input": {**FINE["input"], "tenant_id": "globex"}}},
            422,
            "TenantMismatch",
        ),
        ("search.index", {"json": {"input": {**FINE["input"], "x": 1}}}, 422, "InvalidPayload"),
        ("search.index", {"json": {**FINE, "key": "a\x00"}}, 422, "KeyInvalid"),
        ("search.index", {"json": {**FINE, "key": "k" * 300}}, 422, "KeyInvalid"),
        ("search.index", {"json": {**FINE, "at": "2026-11-22T10:00:00"}}, 422, "InvalidPayload"),
        ("search.index", {"json": {**FINE, "at": "9999-12-31T23:59:59Z"}}, 422, "InvalidPayload"),
        ("search.index", {"json": []}, 422, "InvalidPayload"),
        ("search.index", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422,
         "InvalidPayload"),
        ("search.index", {"content": b"\xff", "headers": {"Content-Type": "application/json"}}, 422,
         "InvalidRequest"),
        ("search.index", {"content": b"[" * 100_000,
                          "headers": {"Content-Type": "application/json"}}, 422, "InvalidPayload"),
        ("search.index", {"json": {"input": {"ref": "x" * 300_000}}}, 413, "BodyTooLarge"),
        ("search.index", {"content": b"a=b"}, 415, "MediaTypeRefused"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_for_is_refused_in_a_sentence(
    web: Web, job: str, sent: dict[str, Any], status: int, problem: str
) -> None:
    async with web.client("acme") as client:
        answer = await client.post(f"/jobs/{job}", **sent)
    assert (answer.status_code, problem_of(answer)) == (status, problem), answer.text
    assert await messages_of(web.door.database, "acme") == []


HOSTILE = {
    "deep": {"data": "[" * 150 + "]" * 150},
    "very deep": {"data": "[" * 3_000 + "]" * 3_000},
    "digits": {"data": "9" * 4_000},
    "many digits": {"data": "9" * 4_500},
    "an exponent": {"data": "1e5000"},
    "no number": {"data": "NaN"},
    "half a pair": {"data": r'"\ud800"'},
    "NUL": {"data": r'"\u0000"'},
    "a key of half a pair": {"key": r'"\ud800"'},
    "a time before the first": {"at": '"0001-01-01T00:00:00+14:00"'},
    "a time of many digits": {"at": "1" * 400},
}


async def test_json_that_no_relay_could_read_is_refused(web: Web) -> None:
    async with answering(replace(web.door, open_jobs={"test.note"})) as url:
        answers = {}
        async with replace(web, url=url).client("acme") as client:
            for name, given in HOSTILE.items():
                parts = {"key": '"k"', "at": "null", **given}
                data = parts.pop("data", "0")
                others = ", ".join(f'"{part}": {value}' for part, value in parts.items())
                answers[name] = await client.post(
                    "/jobs/test.note",
                    content=f'{{"input": {{"data": {data}}}, {others}}}',
                    headers={"Content-Type": "application/json"},
                )
            sound = await client.post("/jobs/test.note", json={"input": {"data": [[1e300]]}})
    assert sound.status_code == 202, sound.text
    said = {name: (answer.status_code, problem_of(answer)) for name, answer in answers.items()}
    assert said == dict.fromkeys(HOSTILE, (422, "InvalidPayload"))
    assert len(await messages_of(web.door.database, "acme")) == 1


async def test_a_run_can_be_looked_up_whatever_its_row_holds(
    web: Web, database_urls: DatabaseUrls
) -> None:
    take_walls_away(database_urls)
    names = [name for name, each in HOSTILE_ROWS.items() if "key" not in each.columns]
    await insert_hostile(web.door.database, "acme", names)
    async with (
        answering(replace(web.door, open_jobs={"test.note"})) as url,
        replace(web, url=url).client("acme") as client,
    ):
        found = {name: await client.get(f"/jobs/test.note/{name}") for name in names}
    # Only Temporal, which is down, knows whether this names another job or a workflow.
    assert {answer.status_code for answer in found.values()} <= {200, 503}
    waiting = [name for name, answer in found.items() if answer.status_code == 200]
    assert len(waiting) >= len(names) - 1


async def test_another_tenants_run_is_as_unknown_as_one_that_never_was(
    web_and_temporal: Web,
) -> None:
    web = web_and_temporal
    async with web.client("acme") as acme, web.client("globex") as globex:
        await acme.post("/jobs/search.index", json={**FINE, "key": "mine"})
        answers = [
            await globex.get(f"/jobs/{each}")
            for each in ("search.index/mine", "search.index/never", "search.index/a%00b")
        ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1


async def test_jobs_are_taken_in_while_temporal_is_away(web: Web) -> None:
    async with web.client("acme") as client:
        asked = await client.post("/jobs/search.index", json=FINE)
        unasked = await client.get("/jobs/search.index/never")
    assert asked.status_code == 202
    assert (unasked.status_code, problem_of(unasked)) == (503, "Unavailable")
    assert "7233" not in unasked.text


class FailsWhileAsked(Runs):
    """A Temporal in which a run fails, and its letter is written, during the call."""

    async def status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        letter = Letter(workflow_id, Source.WORKFLOW, "PartnerGone", "the partner is gone.", 1)
        async with tenant_session() as session:
            await put_letters(session, [letter])
        return WorkflowExecutionStatus.FAILED


async def test_a_run_that_fails_while_it_is_looked_up_is_told_with_its_reason(web: Web) -> None:
    door = replace(web.door, runs=FailsWhileAsked(web.door.database))
    async with answering(door) as url, replace(web, url=url).client("acme") as client:
        answer = await client.get("/jobs/search.index/k")
    assert answer.json() == {
        "job": "search.index",
        "key": "k",
        "status": "failed",
        "error": {"type": "PartnerGone", "message": "The partner is gone."},
        "links": {"self": "/jobs/search.index/k"},
    }


async def test_a_job_that_is_asked_for_while_its_run_is_looked_up_is_known(web: Web) -> None:
    async with web.client("acme") as asking:

        class AskedMeanwhile(Runs):
            async def status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
                await asking.post("/jobs/search.index", json={**FINE, "key": "k"})
                return None

        door = replace(web.door, runs=AskedMeanwhile(web.door.database))
        async with answering(door) as url, replace(web, url=url).client("acme") as client:
            answer = await client.get("/jobs/search.index/k")
    assert (answer.status_code, answer.json()["status"]) == (200, "waiting")


async def test_a_job_that_failed_days_ago_comes_back_in_its_own_tenant(
    web_and_temporal: Web, saas: Client, make_relay: Any, broken: Path, starter: Starter
) -> None:
    """Requested over HTTP, failed permanently, and replayed after another worker has started."""
    door = replace(web_and_temporal.door, open_jobs={"test.wanted"})
    database = door.database
    worker = {"workflows": web_jobs.WORKFLOWS, "activities": web_jobs.ACTIVITIES}
    async with answering(door) as url, replace(web_and_temporal, url=url).client("acme") as client:
        async with saas_worker(saas, **worker), running(make_relay()):
            asked = await client.post(
                "/jobs/test.wanted", json={"input": {"note": "theirs"}, "key": "k"}
            )
            address = asked.json()["links"]["self"]
            failed = await until_status(client, address, "failed")
        assert failed["error"] == {
            "type": "PartnerGone",
            "message": "The partner is gone for good.",
        }
        await three_days_pass(web_and_temporal)

        os.remove(broken)
        asked_for = ("dead-letters", "replay", "--older-than", "2d", "--job", "test.wanted")
        async with saas_worker(saas, **worker):
            replayed = await starter(*asked_for, "--json", program=STARTER)
            assert replayed.code == 0, replayed.err
            await until_status(client, address, "succeeded")
    assert await entries_of(database, "acme") == ["k"]
    assert await entries_of(database, "globex") == []


async def three_days_pass(web: Web) -> None:
    """Makes the letter three days old."""
    async with web.door.database.platform_session("age a letter in a test") as session:
        await session.execute(
            text("""
                update tenancy.dead_letters
                set failed_at = failed_at - interval '3 days',
                    recorded_at = recorded_at - interval '3 days'
            """)
        )


# What a job could not do is refused before a message is written.


async def give_document(web: Web, tenant: str, key: str) -> None:
    with web.acting_for(tenant):
        async with tenant_session() as session:
            session.add(Document(kind="note", key=key, content={"text": "x"}))


async def give_things(web: Web, tenant: str) -> dict[str, dict[str, Any]]:
    """Gives a tenant one of each thing that a job's input names; returns an input for each job."""
    await give_document(web, tenant, f"of-{tenant}")
    integration = {"url": "https://x.example/records", "credential": "c"}
    async with web.client(tenant) as client:
        export = await client.post("/exports", json={"dataset": "contacts"})
        report = await client.post("/reports", json=REPORT)
        await client.put("/integrations/crm", json=integration)
        sync = await client.post("/integrations/crm/sync")
    assert sync.status_code == 202, sync.text
    payloads = {each.job: each.payload for each in await messages_of(web.door.database, tenant)}
    return {
        "exports.generate": {"export_id": export.json()["id"]},
        "reports.generate": {"report_id": report.json()["id"]},
        "integrations.sync": {"integration_id": payloads["integrations.sync"]["integration_id"]},
        "search.index": {"kind": "document", "ref": f"note/of-{tenant}"},
    }


REPORT = {
    "kind": "usage.by_route",
    "parameters": {"first": "2013-04-01", "last": "2013-04-30"},
}
WRONG = [str(uuid4()), "17", "", "note/never", "changed/2013-04"]


async def test_what_the_input_of_a_job_names_must_be_the_tenants_own(web: Web) -> None:
    """Every open job whose input names something, with ids of nothing and of another tenant."""
    own, anothers = await give_things(web, "acme"), await give_things(web, "globex")
    naming = {
        name
        for name in OPEN_JOBS
        if set(registry[name].input_model.model_fields) - {"tenant_id", "period"}
    }
    assert set(own) == naming
    before = len(await messages_of(web.door.database, "acme"))
    async with web.client("acme") as client:
        for job, there in own.items():
            [name] = [each for each in there if each == "ref" or each.endswith("_id")]
            for wrong in [anothers[job], *({**there, name: each} for each in WRONG)]:
                answer = await client.post(f"/jobs/{job}", json={"input": wrong})
                assert answer.status_code in (404, 422), (job, wrong, answer.text)
                problem_of(answer)
        assert len(await messages_of(web.door.database, "acme")) == before
        for job, there in own.items():
            answer = await client.post(f"/jobs/{job}", json={"input": there})
            assert answer.status_code == 202, (job, answer.text)
    assert len(await messages_of(web.door.database, "acme")) == before + len(own)


async def test_an_entry_of_something_that_is_gone_can_still_be_brought_in_step(web: Web) -> None:
    with web.acting_for("acme"):
        async with tenant_session() as session:
            session.add(SearchDocument(kind="document", ref="note/gone", title="t", body=""))
    async with web.client("acme") as client:
        wanted = {"input": {"kind": "document", "ref": "note/gone"}}
        assert (await client.post("/jobs/search.index", json=wanted)).status_code == 202


def periods(zone: str) -> dict[str, tuple[str, str, str]]:
    """Returns the last whole period, the current one and the next one of each length."""
    today = datetime.now(ZoneInfo(zone)).date()
    days = [(today + timedelta(days=days)).isoformat() for days in (-1, 0, 1)]
    month = today.replace(day=1)
    ends = (month - timedelta(days=1), month, month + timedelta(days=31))
    last, current, later = (end.isoformat()[:7] for end in ends)
    return {
        "report.daily": (days[0], days[1], days[2]),
        "analytics.aggregate": (last, current, later),
    }


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])  # 25 hours apart
async def test_a_period_is_the_tenants_own_and_must_be_over(
    web: Web, tenants: Tenants, zone: str
) -> None:
    await tenants.add("local", "Local", plan="enterprise", time_zone=zone)
    _, key = await ApiKeys(web.door.database).create("local", "tests")
    jobs = periods(zone)
    assert set(jobs) == {name for name in OPEN_JOBS if registry[name].period is not None}
    async with web.client(headers={"Authorization": f"Bearer {key}"}) as client:
        for job, (_, current, later) in jobs.items():
            for unfinished in (current, later, "9998-10" if len(later) == 7 else "9998-10-01"):
                for sent in ({"key": unfinished}, {"input": {"period": unfinished}}):
                    answer = await client.post(f"/jobs/{job}", json=sent)
                    assert (answer.status_code, problem_of(answer)) == (422, "InvalidRequest")
                    assert f"is not over in {zone}" in answer.json()["error"]["message"]
        assert await messages_of(web.door.database, "local") == []
        for job, (last, current, _) in jobs.items():
            default = await client.post(f"/jobs/{job}", json={})
            assert (default.status_code, default.json()["key"]) == (202, last)
            at = (datetime.now(UTC) + timedelta(days=33)).isoformat()
            planned = await client.post(f"/jobs/{job}", json={"key": current, "at": at})
            assert planned.status_code == 202, planned.text


async def test_a_job_that_another_route_requests_says_which(web: Web) -> None:
    async with web.client("acme") as client:
        answer = await client.post("/jobs/contacts.import", json=FINE)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "contacts.import is requested with POST /imports."
