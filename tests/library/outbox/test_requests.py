"""Repeated requests, and messages that are cancelled or moved before a relay claims them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowExecutionStatus

from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.outbox import (
    Enqueued,
    KeyTaken,
    MessageStatus,
    RunStatus,
    enqueue,
    request_state,
)
from temporal_tenancy.outbox import enqueue_many as enqueue_several
from temporal_tenancy.outbox.enqueueing import enqueue_or_find
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.relay.store_outbox import Messages
from temporal_tenancy.outbox.waiting import ByKey, MessageTaken, MessageUnknown, cancel, reschedule
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseProblem, LockHeld
from temporal_tenancy.postgres.session_limits import SessionLimits
from tests.fixtures.held_locks import holding, until_waiting
from tests.fixtures.modes import InStoreOf, Where
from tests.fixtures.postgres import within
from tests.fixtures.relay import OutboxOf, ask, messages_of, running, until_messages

FAR = datetime(9998, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)
MONTHLY = "test.controlled_monthly"
NOTE = ByKey("test.note", "k")

pytestmark = pytest.mark.usefixtures("two_tenants")


async def find(database: Database, job: str = "test.note", **options: object) -> Enqueued:
    given = options.pop("input", {})
    with within(database, "acme"):
        async with tenant_session():
            return await enqueue_or_find(job, given, **options)  # type: ignore[arg-type]


async def test_a_second_request_says_that_it_was_there_and_when_it_will_run(
    database: Database,
) -> None:
    given = {"period": "2013-05"}
    first = await find(database, MONTHLY, input=given, at=FAR)
    second = await find(database, MONTHLY, input=given)
    assert (first.added, first.key, first.scheduled_at) == (True, "2013-05", FAR)
    assert second == Enqueued(first.id, "2013-05", False, MessageStatus.PENDING, FAR)


async def test_a_request_from_code_has_the_period_as_its_key(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session():
            await enqueue(MONTHLY, {"period": "2013-05"})
            await enqueue(MONTHLY, {}, key="2013-06")
            for given, key in (({}, "2013-4"), ({"period": "2013-05"}, "2013-06")):
                with pytest.raises(InvalidPayload):
                    await enqueue(MONTHLY, given, key=key)
    found = await messages_of(database, "acme")
    assert [(each.key, each.payload["period"]) for each in found] == [
        ("2013-05", "2013-05"),
        ("2013-06", "2013-06"),
    ]


async def test_another_input_under_a_key_is_refused(database: Database) -> None:
    await ask(database, "acme", key="k", input={"text": "first", "data": [1e300]})
    await ask(database, "acme", key="k", input={"text": "first", "data": [1e300]})
    with pytest.raises(KeyTaken, match="pending"):
        await ask(database, "acme", key="k", input={"text": "second", "data": [1e300]})
    with within(database, "acme"):
        async with tenant_session():
            with pytest.raises(KeyTaken, match="twice in one call"):
                await enqueue_several("test.note", [{}, {"text": "x"}], keys=["a", "a"])
            # The caller may catch it: none of the others is there.
            with pytest.raises(KeyTaken, match=r"acme/test\.note/k .* None of the 3 requests"):
                await enqueue_several(
                    "test.note", [{}, {"text": "other"}, {}], keys=[None, "k", "new"]
                )
    assert [each.key for each in await messages_of(database, "acme")] == ["k"]


@pytest.mark.parametrize(("kept", "is_same"), [("{}", True), ('{"text": 7}', False), ("7", False)])
async def test_inputs_are_compared_as_the_job_reads_them_today(
    database: Database, kept: str, is_same: bool
) -> None:
    await ask(database, "acme", key="k")
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(
                text("update tenancy.outbox_messages set payload = cast(:kept as jsonb)"),
                {"kept": kept},
            )
    if is_same:
        assert not (await find(database, key="k")).added
    else:
        with pytest.raises(KeyTaken):
            await find(database, key="k")


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (WorkflowExecutionStatus.TERMINATED, "Terminated"),
        (WorkflowExecutionStatus.TIMED_OUT, "Timeout"),
        (WorkflowExecutionStatus.CANCELED, "Cancelled"),
    ],
)
async def test_a_run_that_could_record_no_letter_says_why_it_failed(
    database: Database, run: WorkflowExecutionStatus, kind: str
) -> None:
    async def ask_temporal(_: str) -> WorkflowExecutionStatus:
        return run

    with within(database, "acme"):
        state = await request_state("test.note", "k", ask_temporal)
    assert state is not None
    assert (state.status, state.error_type) == (RunStatus.FAILED, kind)
    assert state.error_message


async def test_a_message_that_is_cancelled_is_gone_and_its_key_free(database: Database) -> None:
    first = await ask(database, "acme", key="k", at=FAR)
    theirs = await ask(database, "globex", key="k")
    with within(database, "globex"):
        async with tenant_session():
            with pytest.raises(MessageUnknown):
                await cancel(first)
    with within(database, "acme"):
        async with tenant_session():
            assert (await cancel(NOTE)).id == first
            assert await enqueue("test.note", {"text": "other"}, key="k") != first
    assert [each.id for each in await messages_of(database, "globex")] == [theirs]


async def test_a_message_that_is_moved_runs_at_its_new_time(
    database: Database, make_relay: Callable[..., Relay]
) -> None:
    async def take(*_: object) -> None:
        """A replacement for Temporal."""

    moved = await ask(database, "acme", key="k", at=FAR)
    put_off = await ask(database, "acme", key="later")
    with within(database, "acme"):
        async with tenant_session():
            await reschedule(put_off, FAR)
        async with tenant_session():
            await reschedule(moved, datetime.now(UTC))
            with pytest.raises(InvalidPayload):
                await reschedule(moved, datetime(9999, 12, 31, tzinfo=UTC))
    async with running(make_relay(deliver=take)):
        found = await until_messages(
            database, "acme", lambda all: MessageStatus.COMPLETED in {each.status for each in all}
        )
    assert {each.key: each.status for each in found} == {"k": "completed", "later": "pending"}


@pytest.mark.parametrize("status", ["processing", "completed", "dead_letter"])
async def test_what_does_not_wait_any_more_is_left_alone(
    database: Database, in_store_of: InStoreOf, status: str
) -> None:
    message = await ask(database, "acme", key="k")
    with in_store_of("acme") as superuser:
        superuser.execute("update tenancy.outbox_messages set status = %s", [status])
    with within(database, "acme"):
        async with tenant_session():
            for act in (cancel(NOTE), reschedule(message, FAR)):
                with pytest.raises(MessageTaken, match="already"):
                    await act
            with pytest.raises(MessageUnknown):
                await cancel(uuid4())
    assert [each.status for each in await messages_of(database, "acme")] == [status]


@pytest.mark.parametrize("first_commits", [True, False])
async def test_of_two_at_once_under_one_key_with_different_inputs_one_is_refused(
    database: Database, where: Where, first_commits: bool
) -> None:
    done, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        with within(database, "acme"):
            async with tenant_session() as session:
                await enqueue("test.note", {"text": "a"}, key="k")
                done.set()
                await go_on.wait()
                if not first_commits:
                    await session.rollback()

    acting = asyncio.create_task(first())
    await done.wait()
    second = asyncio.create_task(find(database, input={"text": "b"}, key="k"))
    await until_waiting(where("acme")[0].superuser)
    go_on.set()
    await acting
    if first_commits:
        with pytest.raises(KeyTaken, match="pending"):
            await second
    else:
        assert (await second).added
    [message] = await messages_of(database, "acme")
    assert message.payload["text"] == ("a" if first_commits else "b")


async def test_a_request_in_a_savepoint_that_is_rolled_back_leaves_its_key_free(
    database: Database,
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            savepoint = await session.begin_nested()
            gone = await enqueue("test.note", {"text": "a"}, key="k")
            await savepoint.rollback()
            assert await enqueue("test.note", {"text": "b"}, key="k") != gone
    [message] = await messages_of(database, "acme")
    assert message.payload["text"] == "b"


@pytest.mark.parametrize("does", ["return null", "new.key = new.key || '-'; return new"])
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_trigger_that_loses_requests_is_reported(
    database: Database, in_store_of: InStoreOf, does: str, key: str | None
) -> None:
    with in_store_of("acme") as superuser:
        superuser.execute(
            b"create function meddle() returns trigger language plpgsql "
            b"as $$begin %s; end$$" % does.encode()
        )
        superuser.execute(
            "create trigger zz_meddle before insert on tenancy.outbox_messages "
            "for each row execute function meddle()"
        )
    with pytest.raises(DatabaseProblem, match="drops or changes requests"):
        await ask(database, "acme", key=key)
    assert await messages_of(database, "acme") == []


async def test_a_relay_that_is_claiming_a_message_came_first(
    database: Database, outbox_of: OutboxOf, where: Where
) -> None:
    message = await ask(database, "acme", key="k")

    async def try_to_cancel() -> None:
        with within(database, "acme"):
            async with tenant_session():
                await cancel(message)

    async with outbox_of("acme").platform_session("claim in a test") as session:
        [claimed] = await queue.claim(session, {"acme": 1}, lease=LEASE)
        trying = asyncio.create_task(try_to_cancel())
        await until_waiting(where("acme")[0].superuser)
        assert not trying.done()
    with pytest.raises(MessageTaken, match="a relay has already claimed"):
        await trying
    assert claimed.id == message
    assert [each.status for each in await messages_of(database, "acme")] == ["processing"]


@pytest.mark.parametrize("moved", [False, True])
async def test_a_relay_passes_over_what_is_being_cancelled_or_moved(
    database: Database, outbox_of: OutboxOf, moved: bool
) -> None:
    done, go_on = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        with within(database, "acme"):
            async with tenant_session():
                await (reschedule(NOTE, FAR) if moved else cancel(NOTE))
                done.set()
                await go_on.wait()

    await ask(database, "acme", key="k")
    acting = asyncio.create_task(act())
    await done.wait()
    assert await claim(outbox_of("acme")) == []
    go_on.set()
    await acting
    assert await claim(outbox_of("acme")) == []
    assert [each.scheduled_at for each in await messages_of(database, "acme")] == [FAR] * moved


async def claim(outbox: Messages) -> list[Message]:
    async with outbox.platform_session("claim in a test") as session:
        return await queue.claim(session, {"acme": 1}, lease=LEASE)


async def test_a_message_that_somebody_holds_is_not_waited_for_without_end(
    database: Database, where: Where
) -> None:
    await ask(database, "acme", key="k")
    urls, schema = where("acme")
    held = "select 1 from tenancy.outbox_messages for update"
    brief = SessionLimits(lock=timedelta(seconds=0.2))
    with (
        holding(urls.tenant, "acme", held, schema=schema),
        within(database, "acme"),
        pytest.raises(LockHeld),
    ):
        async with tenant_session(limits=brief):
            await cancel(NOTE)
    assert len(await messages_of(database, "acme")) == 1


async def test_a_key_that_no_door_takes_is_a_dead_letter_at_the_relay(
    database: Database, make_relay: Callable[..., Relay], tenants: Tenants
) -> None:
    """Writes a message like an older release, which accepted any key."""
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(
                text("insert into tenancy.outbox_messages (tenant_id, job, key, payload) values "
                     "(:tenant, :job, 'by-client', '{\"period\": \"2013-04\"}')"),
                {"tenant": "acme", "job": MONTHLY},
            )  # fmt: skip
    async with running(make_relay()):
        [letter] = await until_messages(
            database,
            "acme",
            lambda all: {each.status for each in all} <= {"dead_letter", "completed"},
        )
    assert (letter.status, letter.error_type) == ("dead_letter", "InvalidPayload")
    assert "is not a valid month" in (letter.error_message or "")
    assert "replay" in (letter.error_message or "")
