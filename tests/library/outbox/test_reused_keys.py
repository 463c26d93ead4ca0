"""A key that an earlier run has used with another input is no repetition, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.worker import Worker

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.core.directory import use_directory
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.replaying import ReplayOutcome, replay
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.outbox import RunStatus, request_state, run_status
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.tables import OutboxMessage
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk.taken_ids import KeyReused, require_same_input
from tests.fixtures.jobs.relay_control import Control, until
from tests.fixtures.jobs.relay_jobs import Noted
from tests.fixtures.modes import InStoreOf
from tests.fixtures.postgres import within
from tests.fixtures.relay import (
    OutboxOf,
    ask,
    effects_of,
    running,
    until_effects,
    until_messages,
)

MakeRelay = Callable[..., Relay]
A, B = {"text": "a"}, {"text": "b"}
ID = "acme/test.note/k"

pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture
async def relay(make_relay: MakeRelay, relay_worker: Worker) -> AsyncIterator[Relay]:
    """A relay that deletes completed messages at once, and a worker of the jobs."""
    async with running(make_relay(keep_completed=timedelta(0))) as relay:
        yield relay


async def done(database: Database, key: str, input: dict[str, Any]) -> None:
    """Has a job done whose message is gone."""
    await ask(database, "acme", key=key, input=input)
    await until_effects(database, "acme", 1)
    await until_messages(database, "acme", lambda ms: not ms)


async def dead(database: Database) -> OutboxMessage:
    [message] = await until_messages(
        database, "acme", lambda ms: [m.status for m in ms] == ["dead_letter"]
    )
    return message


async def found(database: Database) -> dict[str, DeadLetterRow]:
    async with database.platform_session("test") as session:
        return {each.workflow_id: each for each in await letters.latest(session, Filter(), limit=9)}


@pytest.mark.usefixtures("relay")
async def test_another_input_under_a_used_key_is_a_dead_letter_that_can_be_replayed(
    database: Database, app: Client
) -> None:
    await done(database, "k", A)
    first = await app.get_workflow_handle(ID).describe()
    await ask(database, "acme", key="k", input=B)
    message = await dead(database)
    own_id = f"acme/test.note/{message.id}"
    assert (message.error_type, message.attempts) == ("KeyReused", 1)
    for part in (f'"{ID}" was used by run {first.run_id} on 20', "another key", f'"{own_id}"'):
        assert part in (message.error_message or "")
    [letter] = (await found(database)).values()
    assert (letter.workflow_id, letter.message_id) == (own_id, message.id)

    async def ask_for(workflow_id: str) -> WorkflowExecutionStatus | None:
        return await run_status(app, workflow_id)

    with within(database, "acme"):
        state = await request_state("test.note", "k", ask_for)
    assert state is not None
    assert (state.status, state.error_type) == (RunStatus.FAILED, "KeyReused")

    with use_database(database), use_directory(ControlPlaneDirectory(database)):
        assert (await replay(app, letter, by="ada")).outcome is ReplayOutcome.REPLAYED
        assert await until_effects(database, "acme", 2) == sorted(["k", str(message.id)])
        await app.get_workflow_handle(own_id).result()
        with within(database, "acme"):
            state = await request_state("test.note", "k", ask_for)
    assert state is not None
    assert state.status is RunStatus.SUCCEEDED


@pytest.mark.usefixtures("relay")
async def test_the_same_input_under_a_used_key_is_the_same_request(database: Database) -> None:
    await done(database, "k", A)
    await ask(database, "acme", key="k", input=A | {"data": None})  # as the model reads it
    await until_messages(database, "acme", lambda ms: not ms)
    assert await effects_of(database, "acme") == ["k"]
    assert await found(database) == {}


@pytest.mark.usefixtures("relay")
async def test_a_run_that_goes_on_and_one_that_has_failed_keep_their_own_letters(
    database: Database, app: Client, work_control: Control
) -> None:
    work_control.holding.add("acme")
    await ask(database, "acme", key="k", input=A)
    await until(lambda seen: seen.running["acme"] == 1)
    await until_messages(database, "acme", lambda ms: not ms)
    await ask(database, "acme", key="k", input=B)
    reused = await dead(database)
    work_control.released.set()
    await app.get_workflow_handle(ID).result()
    async with database.platform_session("test") as session:
        assert await letters.count(session, Filter()) == 1
    with use_database(database):
        await Sweep(app).resolve()  # the run of the other request has succeeded since
    assert [each.status for each in (await found(database)).values()] == ["open"]

    await ask(database, "acme", key="f", input={"text": "refuse"})
    handle = app.get_workflow_handle("acme/test.note/f")
    while "acme/test.note/f" not in await found(database):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    with pytest.raises(WorkflowFailureError):  # its letter is written just before
        await handle.result()
    await until_messages(database, "acme", lambda ms: all(m.status == "dead_letter" for m in ms))
    await ask(database, "acme", key="f", input=B)
    by_key = {
        (m.key, m.error_type): m
        for m in await until_messages(
            database,
            "acme",
            lambda ms: [m.error_type for m in ms].count("KeyReused") == 2,
        )
    }
    kept = await found(database)
    assert kept["acme/test.note/f"].error_type == "NotNoted"
    assert kept[f"acme/test.note/{by_key['f', 'KeyReused'].id}"].error_type == "KeyReused"
    assert kept[f"acme/test.note/{reused.id}"].error_type == "KeyReused"


async def test_a_lost_message_whose_key_another_request_has_used_is_not_completed(
    database: Database,
    make_relay: MakeRelay,
    relay_worker: Worker,
    outbox_of: OutboxOf,
    in_store_of: InStoreOf,
) -> None:
    async with running(make_relay(keep_completed=timedelta(0))):
        await done(database, "k", A)
    await ask(database, "acme", key="k", input=B)
    async with outbox_of("acme").platform_session("a relay that dies") as session:
        await queue.claim(session, {"acme": 1}, lease=timedelta(0))
    with in_store_of("acme") as superuser:
        superuser.execute("update tenancy.outbox_messages set attempts = 9")
    async with running(make_relay()):
        message = await dead(database)
    assert message.error_type == "KeyReused"
    assert list(await found(database)) == [f"acme/test.note/{message.id}"]


RUN: Any = SimpleNamespace(id=ID, run_id="r", start_time=datetime(2026, 11, 27, 18, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("given", "is_same"),
    [
        ({"tenant_id": "acme", "text": "a", "data": None}, True),
        ({"tenant_id": "acme", "text": "a"}, True),  # by a release without the field
        ({"tenant_id": "acme", "text": "a", "more": 1}, True),  # by one with another field
        ({"tenant_id": "acme", "text": "b"}, False),
        ({"tenant_id": "acme", "text": "a", "data": 1}, False),
        ({"tenant_id": "acme", "text": 7}, False),
        ({"tenant_id": "acme", "text": "odd"}, False),  # its validator raises anything
        (["acme"], False),
        (None, False),
    ],
)
def test_inputs_are_compared_as_the_job_reads_them(given: Any, is_same: bool) -> None:
    request = Noted(tenant_id="acme", text="a")
    if is_same:
        require_same_input(RUN, request, given, otherwise="")
    else:
        with pytest.raises(KeyReused, match="on 2026-11-27 at 18:30:00 UTC, with another input"):
            require_same_input(RUN, request, given, otherwise="Use another key.")


def test_the_letter_of_a_key_is_the_messages_own() -> None:
    id = UUID(int=7)
    message = Message("acme", id, "test.note", "k", "{}", 3, 1, None)
    assert str(message.own_id) == ID
    assert str(message.reused_key_id) == f"acme/test.note/{id}"
