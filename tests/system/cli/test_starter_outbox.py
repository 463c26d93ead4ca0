"""Requesting jobs on the command line, with a relay process that starts them."""

from __future__ import annotations

import json
import re
import signal
from functools import partial

import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from tests.fixtures.starter import Batch, Command, Starter
from tests.fixtures.worker_process import StartWorker

PERIOD = '{"period": "2013-04"}'


@pytest.fixture
async def dl(tenants: Tenants) -> None:
    await tenants.add("dl", "Delta", plan="enterprise", time_zone="America/New_York")


@pytest.fixture
def relay_variables(database_urls: DatabaseUrls) -> dict[str, str]:
    return {"RELAY_DATABASE_URL": database_urls.relay}


@pytest.fixture
def start_relay(start_worker: StartWorker, relay_variables: dict[str, str]) -> StartWorker:
    return partial(start_worker, "--relay", **relay_variables)


async def test_what_is_asked_for_runs_and_can_be_followed(
    dl: None, starter: Starter, start_worker: StartWorker, start_relay: StartWorker
) -> None:
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD, "--json")
    assert asked.code == 0, asked.err
    assert asked.document["workflow_id"] == "dl/billing.cycle/2013-04"
    waiting = await starter("explain", "dl/billing.cycle/2013-04", "--json")
    assert waiting.document["status"] == "not started"
    assert "waits for a relay" in waiting.document["waiting_for"][0]

    worker = await start_worker("--queue", "bulk").until_ready()
    relay = await start_relay().until_ready()
    ran = await starter("run", "billing.cycle", "--tenant", "dl", "--input", PERIOD, "--wait")
    assert ran.code == 0, ran.err
    assert re.match(r"dl/billing\.cycle/2013-04 \S.* http\S+/workflows/dl", ran.err)
    again = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD, "--json")
    assert again.code == 0
    relay.send(signal.SIGTERM)
    assert await relay.exit_code() == 0
    assert "relay.stopped" in relay.text
    assert "worker.stopped" not in relay.text
    worker.send(signal.SIGTERM)
    assert await worker.exit_code() == 0


async def test_what_is_held_back_says_why_and_what_lets_it_go_on(
    dl: None, tenants: Tenants, starter: Starter, relay_variables: dict[str, str]
) -> None:
    await tenants.set_status("dl", TenantStatus.SUSPENDED, reason="unpaid since May")
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD)
    assert asked.code == 0
    waiting = await starter("explain", "dl/billing.cycle/2013-04", "--json")
    assert '"starter.py tenants resume dl"' in waiting.document["waiting_for"][0]
    assert "(unpaid since May)" in waiting.document["waiting_for"][0]
    [listed] = (await starter("outbox", "list", "--json", **relay_variables)).document
    assert (listed["tenant_id"], listed["pending"]) == ("dl", 1)
    assert re.search(r"suspended since \S+ \(unpaid since May\)", listed["held_back"])
    [message] = listed["messages"]
    assert (message["job"], message["key"]) == ("billing.cycle", "2013-04")
    assert message["id"] == waiting.document["message"]["id"]

    await tenants.resume("dl")
    paused = await starter("outbox", "pause", "dl", "--reason", "a flood")
    assert paused.code == 0
    waiting = await starter("explain", "dl/billing.cycle/2013-04", "--json")
    assert "(a flood)" in waiting.document["waiting_for"][0]
    assert '"starter.py outbox resume dl"' in waiting.document["waiting_for"][0]
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--key", "2013-05")
    assert re.search(r"^dl: its messages are paused since \S+ \(a flood\)\.", asked.out, re.M)
    again = await starter(
        "enqueue", "billing.cycle", "--tenant", "dl", "--key", "2013-05", "--json"
    )
    assert (again.document["added"], len(again.document["waiting_for"])) == (False, 1)
    assert (await starter("outbox", "resume", "dl")).code == 0
    capped = await starter("outbox", "cap", "dl", "3", "--json")
    assert capped.document == {"tenant_id": "dl", "concurrency_cap": 3, "running": 0}


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["billing.cycle", "--tenant", "nobody", "--input", PERIOD], "TenantUnknown"),
        (["billing.cycle", "--input", PERIOD], "TenantMissing"),
        (["billing.cycle", "--tenant", "dl", "--input", '{"period": "spring"}'], "InvalidPayload"),
        (["billing.cycle", "--tenant", "dl", "--input", '{"perod": "2013-04"}'], "InvalidPayload"),
        (["billing.cycle", "--tenant", "dl", "--key", "2013-4"], "InvalidPayload"),
        (["billing.cycle", "--tenant", "dl", "--key", "by-client"], "InvalidPayload"),
        (
            ["billing.cycle", "--tenant", "dl", "--input", PERIOD, "--key", "2013-05"],
            "InvalidPayload",
        ),
        (["no.such_job", "--tenant", "dl"], "UnknownJob"),
        (["ticks.reconcile", "--tenant", "dl"], "UsageError"),
        (["billing.cycle", "--tenant", "dl", "--at", "2026-12-24T18:00"], "UsageError"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_before_it_is_written(
    dl: None, starter: Starter, arguments: list[str], kind: str, relay_variables: dict[str, str]
) -> None:
    said = await starter("enqueue", *arguments, "--json")
    assert (said.code, said.document["error"]["type"]) == (2, kind)
    assert (await starter("outbox", "list", "--json", **relay_variables)).document == []


async def test_a_run_is_refused_a_key_that_is_no_period(dl: None, starter: Starter) -> None:
    said = await starter("run", "billing.cycle", "--tenant", "dl", "--key", "2013-4", "--json")
    assert (said.code, said.document["error"]["type"]) == (2, "InvalidPayload")


async def test_what_was_asked_for_says_so_and_can_be_moved_and_taken_back(
    dl: None, batch: Batch, relay_variables: dict[str, str]
) -> None:
    asking = ["enqueue", "notifications.send", "--tenant", "dl", "--key", "k"]
    fields = {"subject": "s", "body": "b", "reference": "r"}
    same = ["--input", json.dumps(fields)]
    other = ["--input", json.dumps(fields | {"subject": "x"})]
    mine = ["--tenant", "dl", "--job", "notifications.send", "--key", "k", "--json"]
    first, again, taken, moved, said, listed, past, cancelled, late, vague = await batch(
        [
            Command([*asking, *same, "--json", "--at", "9998-01-01T00:00:00Z"]),
            Command([*asking, *same, "--json"]),
            Command([*asking, *other, "--json"]),
            Command(["outbox", "reschedule", *mine, "--at", "9997-01-01T00:00:00Z"]),
            Command([*asking, *same]),
            Command(["outbox", "list", "--tenant", "dl"], {**relay_variables}),
            Command(["outbox", "reschedule", *mine[:-1], "--at", "2013-05-01T00:00:00Z"]),
            Command(["outbox", "cancel", *mine]),
            Command(["outbox", "cancel", *mine]),
            Command(["outbox", "cancel", "--tenant", "dl", "--job", "notifications.send"]),
        ]
    )
    assert (first.document["added"], again.document["added"]) == (True, False)
    assert again.document["message_id"] == first.document["message_id"]
    assert again.document["scheduled_at"] == "9998-01-01T00:00:00Z"
    assert again.document["status"] == "pending"
    assert (taken.code, taken.document["error"]["type"]) == (2, "KeyTaken")
    assert moved.document["scheduled_at"] == "9997-01-01T00:00:00Z"
    assert "was asked for already" in said.out
    assert "will run at 9997-01-01" in said.out
    id = str(first.document["message_id"])
    assert re.search(rf"{id} +dl +notifications\.send +k +9997-01-01", listed.out)
    due = "has been due since 2013-05-01 00:00:00Z: it starts as soon as a relay takes it."
    assert due in " ".join(past.out.split())
    assert cancelled.document["cancelled"] is True
    assert cancelled.document["message_id"] == first.document["message_id"]
    assert (late.code, late.document["error"]["type"]) == (2, "MessageUnknown")
    assert vague.code == 2


async def test_a_message_is_cancelled_by_its_id(
    dl: None, starter: Starter, relay_variables: dict[str, str]
) -> None:
    asked = await starter("enqueue", "billing.cycle", "--tenant", "dl", "--input", PERIOD, "--json")
    message_id = asked.document["message_id"]
    done = await starter("outbox", "cancel", message_id, "--json", **relay_variables)
    assert (done.code, done.document["tenant_id"]) == (0, "dl")
    again = await starter("outbox", "cancel", message_id, "--tenant", "dl", "--json")
    assert (again.code, again.document["error"]["type"]) == (2, "MessageUnknown")


async def test_a_relay_needs_its_own_role_and_no_queue(start_worker: StartWorker) -> None:
    lacking = start_worker("--relay", RELAY_DATABASE_URL=None)
    assert await lacking.exit_code() == 3
    assert "RELAY_DATABASE_URL is not set" in lacking.text
    both = start_worker("--relay", "--queue", "bulk")
    assert await both.exit_code() == 2
    assert "a relay serves no task queue" in both.text
