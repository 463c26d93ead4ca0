"""Payment events: each takes effect once, and the latest by its own time wins."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.payments import (
    AppliedPaymentEvent,
    ApplyPaymentEvent,
    apply_payment_event,
    receive_payment_event,
)
from activities.trials import LookAtTrial, Trial, look_at_trial
from saas.database.payments import PaymentEvent
from saas.database.payments import PaymentOutcome as Outcome
from saas.database.tables import AuditEntry, Subscription
from saas.queues import Queue
from saas.services.webhooks import VerifiedEvent
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus, use_tenant_record
from temporal_tenancy.core.jobs import JobPriority, registry
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.testing import make_tenant
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.payments import PaymentWebhook, PaymentWebhookInput
from workflows.retries import HEARTBEAT_TIMEOUT

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEXT_MONTH = NOON + timedelta(days=30)


@pytest.fixture
async def worker(saas: Client, tenants: Tenants) -> AsyncIterator[None]:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="free")
    async with saas_worker(saas, task_queue=Queue.CRITICAL):
        yield


def event(
    kind: str = "subscription.activated",
    *,
    id: str = "evt_1",
    minute: int = 0,
    plan: str = "standard",
    **data: Any,
) -> VerifiedEvent:
    """An event that happened `minute` minutes after noon and was sent in the evening."""
    body = {
        "type": kind,
        "timestamp": (NOON + timedelta(minutes=minute)).isoformat(),
        "data": {"plan": plan, "customer": "cus_1", **data},
    }
    return VerifiedEvent(id, NOON + timedelta(hours=6), json.dumps(body).encode())


async def receive(database: Database, event: VerifiedEvent, tenant: str = "acme") -> bool:
    with within(database, tenant):
        async with tenant_session() as session:
            return await receive_payment_event(session, event)


def environment() -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, heartbeat_timeout=HEARTBEAT_TIMEOUT)
    return environment


async def apply(database: Database, event_id: str, tenant: str = "acme") -> Outcome | None:
    """Applies the event and returns its effect, without a server."""
    with within(database, tenant):
        applied = await environment().run(apply_payment_event, ApplyPaymentEvent(event_id=event_id))
    assert isinstance(applied, AppliedPaymentEvent)
    return applied.outcome


async def run(client: Client, event_id: str = "evt_1", tenant: str = "acme") -> Outcome | None:
    applied = await client.execute_workflow(
        PaymentWebhook.run,
        PaymentWebhookInput(tenant_id=tenant, event_id=event_id),
        id=f"{tenant}/payments.webhook/{event_id}",
        task_queue=Queue.CRITICAL,
    )
    return applied.outcome


async def rows(database: Database, model: Any, tenant: str = "acme") -> Sequence[Any]:
    with within(database, tenant):
        async with tenant_session() as session:
            return (await session.scalars(select(model))).all()


async def actions(database: Database, tenant: str = "acme") -> list[str]:
    return [entry.action for entry in await rows(database, AuditEntry, tenant)]


def test_payments_go_before_everything_else() -> None:
    job = registry["payments.webhook"]
    assert (job.queue, job.priority) == (Queue.CRITICAL, JobPriority.URGENT)


@pytest.mark.usefixtures("worker")
async def test_an_event_delivered_three_times_activates_the_subscription_once(
    saas: Client, database: Database
) -> None:
    activated = event(current_period_end=NEXT_MONTH.isoformat())
    assert [await receive(database, activated) for _ in range(3)] == [True, False, False]
    [message] = await rows(database, OutboxMessage)
    assert (message.job, message.key) == ("payments.webhook", "evt_1")
    assert [await run(saas) for _ in range(3)] == [Outcome.APPLIED, None, None]
    [subscription] = await rows(database, Subscription)
    assert (subscription.plan, subscription.status) == ("standard", "active")
    assert subscription.current_period_end == NEXT_MONTH
    assert (subscription.changed_at, subscription.changed_by) == (NOON, "evt_1")
    assert await actions(database) == ["subscription.active"]


@pytest.mark.usefixtures("worker")
async def test_two_tenants_events_of_one_id_are_two_events(
    saas: Client, database: Database
) -> None:
    for tenant, plan in (("acme", "standard"), ("globex", "enterprise")):
        assert await receive(database, event(plan=plan), tenant)
        assert await run(saas, tenant=tenant) is Outcome.APPLIED
    assert [s.plan for s in await rows(database, Subscription, "acme")] == ["standard"]
    assert [s.plan for s in await rows(database, Subscription, "globex")] == ["enterprise"]


async def test_deliveries_side_by_side_are_one(database: Database) -> None:
    received = await asyncio.gather(*(receive(database, event()) for _ in range(4)))
    assert sorted(received) == [False, False, False, True]
    outcomes = await asyncio.gather(*(apply(database, "evt_1") for _ in range(4)))
    assert outcomes.count(Outcome.APPLIED) == 1
    assert outcomes.count(None) == 3
    assert await actions(database) == ["subscription.active"]


async def test_an_event_is_kept_as_it_was_signed(database: Database) -> None:
    sent = event()
    await receive(database, sent)
    await receive(database, VerifiedEvent("evt_1", sent.sent_at, b"another body"))
    [kept] = await rows(database, PaymentEvent)
    assert (kept.body, kept.sent_at, kept.outcome) == (sent.body, sent.sent_at, None)


async def test_an_event_is_stored_together_with_its_message_or_not_at_all(
    database: Database,
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await receive_payment_event(session, event())
            await session.rollback()
    assert await rows(database, PaymentEvent) == []
    assert await rows(database, OutboxMessage) == []


STORY = [
    event("subscription.activated", id="evt_a", minute=0),
    event("payment.succeeded", id="evt_b", minute=1, current_period_end=NEXT_MONTH.isoformat()),
    event("payment.failed", id="evt_c", minute=2, plan="enterprise"),
    # Two at one moment: the later stage of a subscription wins, whatever their ids.
    event("subscription.cancelled", id="evt_d", minute=3, plan="enterprise"),
    event("subscription.updated", id="evt_e", minute=3, plan="free"),
]


async def test_every_order_of_delivery_ends_in_the_same_subscription(database: Database) -> None:
    orders = list(itertools.permutations(STORY))
    for number, order in enumerate(orders[:: len(orders) // 24]):
        tenant = f"tenant-{number}"
        for told in order:
            await receive(database, told, tenant)
            await apply(database, told.id, tenant)
        for told in order:
            assert await apply(database, told.id, tenant) is None
        [subscription] = await rows(database, Subscription, tenant)
        assert (
            subscription.plan,
            subscription.status,
            subscription.current_period_end,
            subscription.started_at,
            subscription.changed_at,
            subscription.changed_by,
        ) == ("enterprise", "cancelled", None, NOON, NOON + timedelta(minutes=3), "evt_d"), order


async def test_what_comes_too_late_changes_nothing_and_says_so(database: Database) -> None:
    for late in (event("subscription.cancelled", id="evt_2", minute=5), event(id="evt_1")):
        await receive(database, late)
    assert await apply(database, "evt_2") is Outcome.APPLIED
    assert await apply(database, "evt_1") is Outcome.SUPERSEDED
    [subscription] = await rows(database, Subscription)
    assert subscription.status == "cancelled"
    assert await actions(database) == ["subscription.cancelled"]
    outcomes = {kept.event_id: kept.outcome for kept in await rows(database, PaymentEvent)}
    assert outcomes == {"evt_1": "superseded", "evt_2": "applied"}


async def test_a_payment_renews_what_is_active_and_revives_what_is_past_due(
    database: Database,
) -> None:
    kinds = ["subscription.activated", "payment.succeeded", "payment.failed", "payment.succeeded"]
    for minute, kind in enumerate(kinds):
        await receive(database, event(kind, id=f"evt_{minute}", minute=minute))
        await apply(database, f"evt_{minute}")
    assert await actions(database) == [
        "subscription.active",
        "subscription.renewed",
        "subscription.past_due",
        "subscription.active",
    ]


async def test_an_event_that_is_about_something_else_is_passed_over(database: Database) -> None:
    await receive(database, VerifiedEvent("evt_1", NOON, event("customer.updated").body))
    assert await apply(database, "evt_1") is Outcome.IGNORED
    assert await rows(database, Subscription) == []


@pytest.mark.parametrize(
    ("kind", "named", "status"),
    [
        ("subscription.updated", "past_due", "past_due"),
        ("subscription.updated", "unpaid", "past_due"),
        ("subscription.updated", "canceled", "cancelled"),
        ("subscription.updated", "trialing", "active"),
        ("subscription.updated", "active", "active"),
        ("subscription.activated", "incomplete", "past_due"),
        ("payment.failed", "succeeded", "past_due"),  # the payment's, not the subscription's
    ],
)
async def test_a_subscriptions_own_events_say_its_status(
    database: Database, kind: str, named: str, status: str
) -> None:
    await receive(database, event(kind, status=named))
    assert await apply(database, "evt_1") is Outcome.APPLIED
    [subscription] = await rows(database, Subscription)
    assert subscription.status == status


async def test_of_two_alike_in_one_moment_the_one_that_was_sent_later_stands(
    database: Database,
) -> None:
    first = event("subscription.updated", id="evt_z", plan="free")
    later = dataclasses.replace(
        event("subscription.updated", id="evt_a", plan="standard"),
        sent_at=first.sent_at + timedelta(seconds=1),
    )
    for tenant, order in (("acme", (first, later)), ("globex", (later, first))):
        for each in order:
            await receive(database, each, tenant)
            await apply(database, each.id, tenant)
        [subscription] = await rows(database, Subscription, tenant)
        assert subscription.plan == "standard"


INVALID: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello", "it must be JSON, as in"),
    "no text": (b"\xff\xfe", "it must be JSON, as in"),
    "no object": (b"[]", "it must be an object"),
    "no type": (b'{"timestamp": "2026-11-22T12:00:00Z", "data": {}}', "type: it is missing"),
    "no plan": (
        b'{"type": "payment.failed", "timestamp": "2026-11-22T12:00:00Z", "data": {}}',
        "plan: it is missing",
    ),
    "a time without an offset": (
        b'{"type": "payment.failed", "timestamp": "2026-11-22T12:00:00", "data": {}}',
        "timestamp: it must have an offset",
    ),
    "a plan that is none": (event(plan="a\x00b").body, "plan: it must match"),
    "a status that is none": (
        event("subscription.updated", status="zombie").body,
        "names an unknown status",
    ),
    "an end beyond the calendar": (
        event(current_period_end="9999-12-31T23:59:59-05:00").body,
        "current_period_end: a time must be between",
    ),
    "a time before the calendar": (
        b'{"type": "payment.failed", "timestamp": "0001-01-01T00:00:00+14:00", "data": {}}',
        "timestamp: a time must be between",
    ),
    "a time to come": (event(minute=6 * 60 + 6).body, "has a timestamp after"),
}


@pytest.mark.parametrize(("body", "said"), INVALID.values(), ids=INVALID.keys())
async def test_what_cannot_be_understood_is_refused_for_good_and_not_noted(
    database: Database, body: bytes, said: str
) -> None:
    await receive(database, VerifiedEvent("evt_1", NOON + timedelta(hours=6), body))
    for _ in range(2):  # so that it can be replayed
        with pytest.raises(ApplicationError, match=said) as caught:
            await apply(database, "evt_1")
        assert (caught.value.type, caught.value.non_retryable) == ("PaymentEventInvalid", True)


@pytest.mark.usefixtures("worker")
async def test_another_tenants_event_is_not_found(saas: Client, database: Database) -> None:
    await receive(database, event(), "acme")
    with pytest.raises(WorkflowFailureError) as caught:
        await run(saas, tenant="globex")
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("PaymentEventNotFound", True)


@pytest.mark.usefixtures("worker")
async def test_a_suspended_tenant_may_pay(
    saas: Client, database: Database, tenants: Tenants
) -> None:
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    await receive(database, event())
    assert await run(saas) is Outcome.APPLIED


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        ("payment.failed", "standard"),
        ("payment.succeeded", "standard"),
        ("subscription.cancelled", None),
    ],
)
async def test_a_trial_ends_on_what_is_subscribed_to_and_not_on_what_is_cancelled(
    database: Database, kind: str, plan: str | None
) -> None:
    await receive(database, event(kind))
    await apply(database, "evt_1")
    trial = make_tenant("acme", TenantStatus.TRIAL, trial_ends_at=NOON)
    with within(database, "acme"), use_tenant_record(trial):
        ended = await environment().run(look_at_trial, LookAtTrial(at=NOON))
    assert ended == Trial(over=True, plan=plan)
