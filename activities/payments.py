"""Payments: what the payment provider tells, and what becomes of the subscription."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from activities.refusals import Refused
from saas.database import audit
from saas.database.payments import PaymentEvent, PaymentOutcome
from saas.database.tables import Subscription, SubscriptionStatus
from saas.services.webhooks import TOLERANCE, VerifiedEvent
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.inputs import refusal
from temporal_tenancy.core.instants import Instant
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.outbox import enqueue, once
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.heartbeats import heartbeating

JOB: Final = "payments.webhook"

STATUS_AFTER: Final = {
    "subscription.activated": SubscriptionStatus.ACTIVE,
    "subscription.updated": SubscriptionStatus.ACTIVE,
    "payment.succeeded": SubscriptionStatus.ACTIVE,
    "payment.failed": SubscriptionStatus.PAST_DUE,
    "subscription.cancelled": SubscriptionStatus.CANCELLED,
}
"""The types of event that say something of the subscription, and its status after each where the
event names none. In the order of a subscription's life: of two events of one moment the later in
this order stands."""

STATUS_NAMED: Final = {
    "active": SubscriptionStatus.ACTIVE,
    "trialing": SubscriptionStatus.ACTIVE,
    "past_due": SubscriptionStatus.PAST_DUE,
    "unpaid": SubscriptionStatus.PAST_DUE,
    "incomplete": SubscriptionStatus.PAST_DUE,
    "canceled": SubscriptionStatus.CANCELLED,
    "cancelled": SubscriptionStatus.CANCELLED,
    "incomplete_expired": SubscriptionStatus.CANCELLED,
}
"""What providers call the status of a subscription, which its own events may name."""

_CREATE: Final = text("""
    insert into subscriptions
        (tenant_id, plan, status, current_period_end, started_at, changed_at, changed_by)
    values (:tenant, :plan, :status, :period_end, :at, :at, :event_id)
    on conflict (tenant_id) do nothing
    returning tenant_id
""")
_CHANGE: Final = text("""
    update subscriptions
    set plan = :plan, status = :status, current_period_end = :period_end,
        changed_at = :at, changed_by = :event_id
    where tenant_id = :tenant
""")
# The first that was ever told of it.
_START: Final = text("""
    update subscriptions set started_at = :at where tenant_id = :tenant and started_at > :at
""")

Model = TypeVar("Model", bound=BaseModel)

log: Final = logging.getLogger(__name__)


class ApplyPaymentEvent(BaseModel):
    """Asks for a stored payment event to have its effect."""

    event_id: str


class AppliedPaymentEvent(BaseModel):
    """What a payment event has done."""

    outcome: PaymentOutcome | None  # None: it had been dealt with before


class PaymentEventNotFound(Refused):
    """The tenant has no such payment event."""


class PaymentEventInvalid(Refused):
    """The payment provider says something that cannot be understood."""


class PaymentEventBody(BaseModel):
    """What a payment event says, in the shape that Standard Webhooks gives all events."""

    type: str
    timestamp: Instant  # when it happened
    data: dict[str, Any]  # JSON


class SubscriptionData(BaseModel):
    """The subscription, as it was when the event happened: each event has all of it."""

    plan: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    current_period_end: Instant | None = None
    status: str | None = None  # in the provider's words


async def receive_payment_event(session: AsyncSession, event: VerifiedEvent) -> bool:
    """Stores a verified event and asks for its job, in the transaction of `session`.

    `session` is the open `tenant_session()` of whoever the event is for. Returns False where the
    event has been stored before: then nothing is asked for.
    """
    stored = await session.scalar(
        insert(PaymentEvent)
        .values(event_id=event.id, body=event.body, sent_at=event.sent_at)
        .on_conflict_do_nothing()
        .returning(PaymentEvent.event_id)
    )
    if stored is None:
        return False
    await enqueue(JOB, {"event_id": event.id}, key=event.id)
    return True


@tenant_activity
@heartbeating()
async def apply_payment_event(request: ApplyPaymentEvent) -> AppliedPaymentEvent:
    """Changes the subscription as the event says, once, if no later event has been there."""
    async with tenant_session() as session:
        event = await session.scalar(
            select(PaymentEvent).where(PaymentEvent.event_id == request.event_id)
        )
        if event is None:
            raise PaymentEventNotFound(
                f'{current_tenant()} has no payment event "{request.event_id}". '
                "Events are stored as they are received."
            )
        if not await once(session, JOB, event.event_id):
            return AppliedPaymentEvent(outcome=None)
        outcome = await _apply(session, event)
        event.outcome = outcome
    log.info("payment_event.applied", extra={"outcome": outcome.value})
    return AppliedPaymentEvent(outcome=outcome)


async def _apply(session: AsyncSession, event: PaymentEvent) -> PaymentOutcome:
    told = _read(PaymentEventBody, event.body, event.event_id)
    if told.timestamp > event.sent_at + TOLERANCE:
        # It would stand against every event to come.
        raise PaymentEventInvalid(
            f"payment event {event.event_id} says that it happened after it was sent. "
            "The provider's clock is wrong: have it sent again with another id."
        )
    if told.type not in STATUS_AFTER:
        return PaymentOutcome.IGNORED
    data = _read(SubscriptionData, told.data, event.event_id)
    status = _status(told.type, data, event.event_id)
    values = {
        "tenant": current_tenant(),
        "plan": data.plan,
        "status": status,
        "period_end": data.current_period_end,
        "at": told.timestamp,
        "event_id": event.event_id,
    }
    before = None
    if (await session.scalar(_CREATE, values)) is None:
        kept = await session.scalar(select(Subscription).with_for_update())
        assert kept is not None
        await session.execute(_START, values)
        if not await _is_later(session, kept, event, told):
            return PaymentOutcome.SUPERSEDED
        before = kept.status
        await session.execute(_CHANGE, values)
    action = "renewed" if before == status else status.value
    await audit.record(
        session,
        f"subscription.{action}",
        event.event_id,
        plan=data.plan,
        happened_at=told.timestamp.astimezone(UTC).isoformat(),
    )
    return PaymentOutcome.APPLIED


def _status(type_: str, data: SubscriptionData, event_id: str) -> SubscriptionStatus:
    """What the subscription's own events name as its status, or else what the type means."""
    if data.status is None or not type_.startswith("subscription."):
        return STATUS_AFTER[type_]
    named = STATUS_NAMED.get(data.status)
    if named is None:
        raise PaymentEventInvalid(
            f"payment event {event_id} names a status that is unknown here. Known are "
            f"{', '.join(STATUS_NAMED)}."
        )
    return named


async def _is_later(
    session: AsyncSession, kept: Subscription, event: PaymentEvent, told: PaymentEventBody
) -> bool:
    """Whether an event stands against the one that the subscription was last changed by.

    The events' own time decides, whichever arrives first. Providers write whole seconds, and one
    change sends several events: of two of one moment the later in a subscription's life stands,
    then the one that was sent later. Ids come last, so that any order ends in the same row.
    """
    if told.timestamp != kept.changed_at:
        return told.timestamp > kept.changed_at
    last = await session.scalar(
        select(PaymentEvent).where(PaymentEvent.event_id == kept.changed_by)
    )
    if last is None:
        return True
    return _place(event, told) > _place(last, _read(PaymentEventBody, last.body, last.event_id))


def _place(event: PaymentEvent, told: PaymentEventBody) -> tuple[int, datetime, str]:
    return list(STATUS_AFTER).index(told.type), event.sent_at, event.event_id


def _read(model: type[Model], value: bytes | dict[str, Any], event_id: str) -> Model:
    """The value as `model`; unknown fields are the provider's own business."""
    try:
        if isinstance(value, bytes):
            return model.model_validate_json(value)
        return model.model_validate(value)
    except ValidationError as error:
        raise PaymentEventInvalid(refusal(error, f"payment event {event_id}").message) from None
