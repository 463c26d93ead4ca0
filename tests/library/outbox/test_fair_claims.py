"""Claims: tenants take turns by the weights of their plans, and each key is claimed once."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from temporalio.client import Client

from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import InvalidPayload, ScopeMissing, TenantMismatch, UnknownJob
from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.core.payloads import DEPTH, DIGITS, PAYLOAD_MAX_BYTES
from temporal_tenancy.outbox import KeyTaken, enqueue, enqueue_many
from temporal_tenancy.outbox.enqueueing import PayloadTooLarge
from temporal_tenancy.outbox.relay.messages import Unit
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.hostile_json import in_lists
from tests.fixtures.postgres import within
from tests.fixtures.relay import ask, messages_of, running

MakeRelay = Callable[..., Relay]
FAR_EAST = timezone(timedelta(hours=14))


class Sink:
    """Takes units one at a time, in place of Temporal."""

    def __init__(self, until: int) -> None:
        self.units: list[Unit] = []
        self.enough = asyncio.Event()
        self._until = until

    async def __call__(self, client: Client, unit: Unit, ladder: RetryLadder) -> None:
        self.units.append(unit)
        if len(self.units) >= self._until:
            self.enough.set()

    def tenants(self, first: int) -> Counter[str]:
        """Counts the first units by tenant."""
        return Counter(unit.tenant_id for unit in self.units[:first])


async def ask_many(database: Database, tenant: str, how_many: int) -> None:
    with within(database, tenant):
        async with tenant_session():
            await enqueue_many("test.note", [{}] * how_many)


async def test_a_flood_of_one_tenant_lets_the_others_go_first(
    database: Database, tenants: Tenants, make_relay: MakeRelay
) -> None:
    for name in ("flood", "small1", "small2"):
        await tenants.add(name, name, plan="standard")
    await ask_many(database, "flood", 2_000)
    await ask_many(database, "small1", 5)
    await ask_many(database, "small2", 5)
    sink = Sink(until=2_010)
    async with running(make_relay(deliver=sink)):
        await sink.enough.wait()
    # One of each in turn, as long as each has units.
    assert sink.tenants(15) == {"flood": 5, "small1": 5, "small2": 5}


async def test_a_plan_of_five_times_the_weight_gets_five_times_the_share(
    database: Database, tenants: Tenants, make_relay: MakeRelay
) -> None:
    await tenants.add("heavy", "Heavy", plan="enterprise")  # 5
    await tenants.add("light", "Light", plan="free")  # 1
    await ask_many(database, "heavy", 1_200)
    await ask_many(database, "light", 1_200)
    sink = Sink(until=900)
    async with running(make_relay(deliver=sink, batch=120)):
        await sink.enough.wait()
    shares = sink.tenants(600)
    assert shares["heavy"] / shares["light"] == pytest.approx(5, rel=0.1)


async def test_more_tenants_than_are_looked_at_in_one_claim_all_get_their_turn(
    database: Database, tenants: Tenants, make_relay: MakeRelay
) -> None:
    names = [f"t{number:03}" for number in range(150)]
    for name in names:
        await tenants.add(name, name, plan="standard")
        await ask_many(database, name, 12)
    sink = Sink(until=1_800)
    # No claim is slow here: a quarantined tenant would get messages beside its turns.
    async with running(make_relay(deliver=sink, claim_limit=timedelta(seconds=30))):
        await sink.enough.wait()
    assert set(sink.tenants(1_800).values()) == {12}
    # Halfway, every tenant has had about half, whatever its place in the alphabet.
    halfway = sink.tenants(900)
    assert len(halfway) == 150
    assert max(halfway.values()) <= 8
    assert min(halfway.values()) >= 4


async def test_a_tenants_urgent_messages_go_before_its_own_others(
    database: Database, tenants: Tenants, make_relay: MakeRelay
) -> None:
    await tenants.add("acme", "Acme", plan="standard")
    for number in range(3):
        await ask(database, "acme", key=f"idle{number}", priority=JobPriority.IDLE)
    await ask(database, "acme", key="urgent", priority=JobPriority.URGENT)
    sink = Sink(until=4)
    async with running(make_relay(deliver=sink)):
        await sink.enough.wait()
    assert [u.messages[0].key for u in sink.units] == ["urgent", "idle0", "idle1", "idle2"]


async def test_what_is_for_later_waits_for_its_time(
    database: Database, tenants: Tenants, make_relay: MakeRelay
) -> None:
    await tenants.add("acme", "Acme", plan="standard")
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    await ask(database, "acme", key="later", at=soon, priority=JobPriority.URGENT)
    await ask(database, "acme", key="now")
    sink = Sink(until=2)
    async with running(make_relay(deliver=sink)):
        await sink.enough.wait()
        assert datetime.now(UTC) >= soon
    assert [unit.messages[0].key for unit in sink.units] == ["now", "later"]


async def test_a_key_that_waits_is_one_message_and_two_tenants_keys_are_two(
    database: Database, tenants: Tenants
) -> None:
    first = await ask(database, "acme", key="k", input={"text": "first"})
    assert await ask(database, "acme", key="k", input={"text": "first"}) == first
    with pytest.raises(KeyTaken):
        await ask(database, "acme", key="k", input={"text": "second"})
    assert await ask(database, "globex", key="k") != first
    [message] = await messages_of(database, "acme")
    assert message.payload["text"] == "first"


async def test_a_batch_of_messages_keeps_its_order_and_its_keys(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session():
            known = await enqueue("test.note", {}, key="b")
            ids = await enqueue_many("test.note", [{}] * 4, keys=["a", "b", None, "a"])
    assert ids[1] == known
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    by_id = {message.id: message.key for message in await messages_of(database, "acme")}
    assert [by_id[one] for one in ids] == ["a", "b", str(ids[2]), "a"]


def many_times(times: int, deep: int) -> Any:
    """A list with few objects and very many parts."""
    value: Any = 0
    for _ in range(deep):
        value = [value] * times
    return value


def in_itself() -> Any:
    lists: list[Any] = []
    lists.append(lists)
    return lists


@pytest.mark.parametrize(
    ("job", "given", "options", "error"),
    [
        ("no.such_job", {}, {}, UnknownJob),
        ("ticks.reconcile", {}, {}, UnknownJob),
        ("test.note", {"text": 7}, {}, InvalidPayload),
        ("test.note", {"other": "x"}, {}, InvalidPayload),
        ("test.note", {"tenant_id": "globex"}, {}, TenantMismatch),
        ("test.note", {"text": "x" * PAYLOAD_MAX_BYTES}, {}, PayloadTooLarge),
        ("test.note", {"text": "a\x00b"}, {}, InvalidPayload),
        ("test.note", {"data": 10**4500}, {}, InvalidPayload),
        ("test.note", {"data": 10**DIGITS}, {}, InvalidPayload),
        ("test.note", {"data": in_lists(0, 3_000)}, {}, InvalidPayload),
        ("test.note", {"data": in_lists(0, DEPTH)}, {}, InvalidPayload),
        ("test.note", {"data": 1 << 33_000_000}, {}, InvalidPayload),  # ten million digits
        ("test.note", {"data": many_times(900, 6)}, {}, InvalidPayload),
        ("test.note", {"data": in_itself()}, {}, InvalidPayload),
        ("test.note", {"data": [math.inf]}, {}, InvalidPayload),
        ("test.note", {"data": {"rate": math.nan}}, {}, InvalidPayload),
        ("test.note", {"data": "\ud800"}, {}, InvalidPayload),
        ("test.note", {"data": {"\ud800": 1}}, {}, InvalidPayload),
        ("test.note", {"data": object()}, {}, InvalidPayload),
        ("test.note", {"data": [1e300] * 1_000}, {}, InvalidPayload),
        ("test.note", {}, {"key": "\ud800"}, TenantMismatch),
        ("test.note", {}, {"key": "a\x00b"}, TenantMismatch),
        ("test.note", {}, {"correlation_id": "c" * 201}, InvalidPayload),
        ("test.note", {}, {"correlation_id": "\ud800"}, InvalidPayload),
        ("test.note", {}, {"correlation_id": "a\x00b"}, InvalidPayload),
        ("test.note", {}, {"correlation_id": "two\nlines"}, InvalidPayload),
        ("test.note", {}, {"at": datetime(1, 1, 1, tzinfo=FAR_EAST)}, InvalidPayload),
        ("test.note", {}, {"at": datetime(9999, 12, 31, 23, tzinfo=UTC)}, InvalidPayload),
        ("test.note", {}, {"key": "a\nb"}, TenantMismatch),
        ("test.note", {}, {"key": ""}, TenantMismatch),
        ("test.note", {}, {"key": "k" * 300}, TenantMismatch),
        ("test.note", {}, {"at": datetime(2026, 12, 24)}, InvalidPayload),  # noqa: DTZ001
    ],
)
async def test_what_cannot_be_asked_for_leaves_no_message(
    database: Database,
    job: str,
    given: dict[str, object],
    options: dict[str, object],
    error: type[Exception],
) -> None:
    with within(database, "acme"):
        async with tenant_session():
            with pytest.raises(error):
                await enqueue(job, given, **options)  # type: ignore[arg-type]
    assert await messages_of(database, "acme") == []


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"data": 10 ** (DIGITS - 1)}, {}),
        ({"data": in_lists(0, DEPTH - 1)}, {}),
        ({"data": [1e308, -5e-324, "\\ud800", "a\\u0000b"]}, {}),
        ({"text": "x" * (PAYLOAD_MAX_BYTES - 30)}, {}),
        ({}, {"correlation_id": "ü" * 200}),
        ({}, {"at": datetime(1970, 1, 1, tzinfo=UTC)}),
        ({}, {"at": datetime(9998, 12, 31, tzinfo=UTC)}),
    ],
)
async def test_what_can_be_read_back_can_be_asked_for(
    database: Database, given: dict[str, object], options: dict[str, Any]
) -> None:
    await ask(database, "acme", input=given, **options)
    [message] = await messages_of(database, "acme")
    assert set(given) <= set(message.payload)


async def test_outside_a_tenants_transaction_nothing_can_be_asked_for(database: Database) -> None:
    with within(database, "acme"), pytest.raises(ScopeMissing, match="tenant_session"):
        await enqueue("test.note", {})
