"""A handler takes several messages in one transaction, and each message has its own outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.core.jobs import Coalesce, Job, JobPriority
from temporal_tenancy.core.redaction import traceback_of
from temporal_tenancy.outbox import (
    OutboxMessage,
    Relay,
    current_event_id,
    current_event_ids,
    once,
    once_each,
    work_off,
)
from temporal_tenancy.outbox._events import use_event_ids
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.jobs.relay_control import Control
from tests.fixtures.jobs.relay_jobs import SECRET, Noted, Together, note, note_together
from tests.fixtures.modes import Where
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, effects_of, running, until_messages

MakeRelay = Callable[..., Relay]
JOB = "test.together"
pytestmark = pytest.mark.usefixtures("two_tenants")


def have_ended(messages: list[OutboxMessage]) -> bool:
    return all(message.status in ("completed", "dead_letter") for message in messages)


async def asked(
    database: Database, number: int, texts: dict[int, str], job: str = JOB
) -> list[str]:
    """Asks for so many, all before a relay looks; returns the keys of those without a text."""
    keys = [f"k{each:02}" for each in range(number)]
    for each, key in enumerate(keys):
        await ask(database, "acme", job, key=key, input={"text": texts.get(each, "")})
    return [key for each, key in enumerate(keys) if each not in texts]


async def test_messages_are_handled_in_one_call(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, work_control: Control
) -> None:
    keys = await asked(database, 40, {})
    async with running(make_relay()):
        await until_messages(database, "acme", have_ended)
    assert [len(texts) for texts in work_control.together] == [40]
    assert await effects_of(database, "acme") == keys


async def test_what_is_bad_is_found_by_halves_and_is_alone_from_then_on(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    work_control: Control,
    where: Where,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, work_off.log.name)  # xdist cannot send half a pair in a line
    bad = {7: "refuse this", 8: "fail this", 9: "fail that", 21: "curse", 30: "will be odd"}
    good = await asked(database, 40, bad)
    with connect(where("acme")[0].superuser) as superuser:  # `enqueue` would refuse it
        superuser.execute(
            "update tenancy.outbox_messages set payload = '{\"text\": \"odd\"}' where key = 'k30'"
        )
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    by_key = {message.key: message for message in found}
    assert by_key["k07"].status == by_key["k08"].status == "dead_letter"
    assert (by_key["k07"].attempts, by_key["k08"].attempts) == (1, 3)
    assert by_key["k07"].error_message == "this cannot be noted."
    assert by_key["k21"].error_message == "a NUL  and half a pair ?."
    assert by_key["k30"].error_type == "LookupError"
    assert [key for key in by_key if by_key[key].status == "completed"] == good
    assert await effects_of(database, "acme") == good  # each once, and none of the bad ones
    sizes = [len(texts) for texts in work_control.together]
    assert sizes[:2] == [39, 19]  # the relay could not read the odd one
    for failed in ("fail this", "fail that"):  # both come again at the same time
        of_it = [len(texts) for texts in work_control.together if failed in texts]
        assert of_it[-3:] == [1, 1, 1]
        assert of_it.count(1) == 3


async def test_where_all_are_bad_each_is_a_dead_letter_of_its_own(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, work_control: Control
) -> None:
    await asked(database, 16, dict.fromkeys(range(16), "refuse this"))
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    ends = {(each.status, each.attempts, each.error_message) for each in found}
    assert ends == {("dead_letter", 1, "this cannot be noted.")}
    sizes = [len(texts) for texts in work_control.together]
    assert (sizes.count(1), len(sizes)) == (16, 31)  # by halves, and each alone once
    assert await effects_of(database, "acme") == []


async def test_a_call_takes_no_more_than_the_limit_and_a_workflow_several_calls(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, work_control: Control
) -> None:
    good = await asked(database, 40, {20: "refuse this"}, "test.few")
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    sizes = [len(texts) for texts in work_control.together]
    assert sizes[:2] == [15, 15]  # the second one fails, and is halved before the third
    assert (max(sizes), sizes[2], sizes[-1]) == (15, 7, 10)
    assert len({message.workflow_id for message in found if message.status == "completed"}) == 1
    assert await effects_of(database, "acme") == good


async def test_a_failure_of_the_database_is_of_no_message(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, work_control: Control
) -> None:
    keys = await asked(database, 4, {2: "no database"})
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    assert {message.status for message in found} == {"completed"}
    assert [message.error_type for message in found] == [None] * 4
    assert len(await effects_of(database, "acme")) == len(keys) + 1
    assert [len(texts) for texts in work_control.together] == [4, 1, 1, 1, 1]


async def test_work_that_was_not_done_is_no_success(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, work_control: Control
) -> None:
    good = await asked(database, 6, {2: "cancel", 3: "forget await"})
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    by_key = {message.key: message for message in found}
    for key, error_type, attempts, words in (
        ("k02", "HandlerCancelled", 3, "though nobody had cancelled it"),
        ("k03", "InvalidPayload", 1, "Write await in front of the call"),
    ):
        dead = by_key[key]
        assert (dead.status, dead.error_type, dead.attempts) == (
            "dead_letter",
            error_type,
            attempts,
        )
        assert words in (dead.error_message or "")
    assert [key for key in by_key if by_key[key].status == "completed"] == good
    assert len({message.workflow_id for message in found if message.status == "completed"}) == 1


async def test_an_error_of_one_is_logged_with_its_place_and_without_secrets(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    work_control: Control,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await asked(database, 4, {2: "tell a secret", 3: "refuse this"})
    async with running(make_relay()):
        found = await until_messages(database, "acme", have_ended)
    [secret, refused] = [message.error_message for message in found if message.error_message]
    assert (secret, refused) == ("the partner refuses ***.", "this cannot be noted.")
    lines = [vars(each) for each in caplog.records if each.message == "message.dead"]
    assert [(each["key"], each["message_attempt"], each["error_type"]) for each in lines] == [
        ("k02", 1, "ApplicationError"),
        ("k03", 1, "NotNoted"),
    ]
    for line in lines:
        told = traceback_of(line["exc_info"][1], of_a_job=True)
        assert "relay_jobs.py" in told
        assert SECRET not in told


async def test_a_run_of_its_own_handles_one(
    database: Database, relay_worker: Worker, app: Client
) -> None:
    with within(database, "acme"):
        await app.execute_workflow(
            Together.run, Noted(tenant_id="acme"), id=f"acme/{JOB}/alone", task_queue="bulk"
        )
    assert await effects_of(database, "acme") == ["alone"]


async def test_events_are_recorded_together_as_one_by_one(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await once(session, "mail", "b")
            assert await once_each(session, "mail", ["c", "b", "a", "a"]) == {"a", "c"}
            assert await once_each(session, "mail", []) == set()
            assert await once_each(session, "search", ["b"]) == {"b"}
    with within(database, "globex"):
        async with tenant_session() as session:
            assert await once_each(session, "mail", ["a", "b"]) == {"a", "b"}


async def test_several_events_are_not_one(database: Database) -> None:
    with within(database, "acme"):
        with use_event_ids(["a", "b"]):
            assert current_event_ids() == ["a", "b"]
            with pytest.raises(ScopeMissing, match="2 events together"):
                current_event_id()
        with use_event_ids(["a"]):
            assert current_event_id() == "a"


async def by_name_only(*, jobs: list[Noted]) -> None:
    """Takes no argument by position."""


async def of_nowhere(jobs: list[Nowhere]) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Names a model that its module does not have."""


@pytest.mark.parametrize(
    ("coalesce", "wanted"),
    [
        (Coalesce(10, note, together=True), r"annotated with list\[Noted\], inputs of the job"),
        (Coalesce(10, note_together), "annotated with Noted, the input of the job"),
        (Coalesce(10, cast("Any", by_name_only), together=True), "take exactly one argument"),
        (Coalesce(10, partial(note_together), together=True), "must be async and take"),
        (Coalesce(10, cast("Any", None)), "must be async and take"),
        (Coalesce(10, of_nowhere, together=True), "'Nowhere' is not defined. Import the names"),
        (Coalesce(0, note), "limit=0. Give it a whole number from 1 to 5,000"),
        (Coalesce(cast("Any", "10"), note), "limit='10'. Give it a whole number"),
        (Coalesce(10**9, note_together, together=True), "limit=1000000000. Give it"),
        (Coalesce(10, note, parallel=-1), "parallel=-1. Give it a whole number"),
        (cast("Any", 100), r"is 100. Write coalesce=Coalesce\(100, handler\)"),
    ],
)
def test_the_handler_takes_what_the_declaration_says(coalesce: Coalesce, wanted: str) -> None:
    job = Job(
        "test.declared",
        "tenant",
        "bulk",
        JobPriority.NORMAL,
        Together,
        coalesce=coalesce,
    )
    with pytest.raises(ConfigurationError, match=wanted):
        job.check()
