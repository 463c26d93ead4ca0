"""Payments: stores the payment provider's events and applies them to the subscription."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database import audit
from saas.database.payments import PaymentEvent, PaymentOutcome
from saas.database.tables import Subscription, SubscriptionStatus
from saas.refusals import Refused
from saas.services.webhooks import TOLERANCE, VerifiedEvent
from temporal_tenancy import Instant, current_tenant, heartbeating, tenant_activity, tenant_session
from temporal_tenancy.core import refusal
from temporal_tenancy.outbox import enqueue, once

JOB: Final = "payments.webhook"

STATUS_AFTER: Final = {
    "subscription.activated": SubscriptionStatus.ACTIVE,
    "subscription.updated": SubscriptionStatus.ACTIVE,
    "payment.succeeded": SubscriptionStatus.ACTIVE,
    "payment.failed": SubscriptionStatus.PAST_DUE,
    "subscription.cancelled": SubscriptionStatus.CANCELLED,
}
"""The event types that concern the subscription, with its status after each unless the event names
one. They are in the order of a subscription's life: of two events at the same moment, the later in
this order wins."""

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
"""Providers' names for the status of a subscription, which `subscription.*` events may contain."""

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
# The earliest event about the subscription is its start.
_START: Final = text("""
    update subscriptions set started_at = :at where tenant_id = :tenant and started_at > :at
""")

Model = TypeVar("Model", bound=BaseModel)

log: Final = logging.getLogger(__name__)


class ApplyPaymentEvent(BaseModel):
    """Input of `apply_payment_event`: the stored event to apply."""

    event_id: str


class AppliedPaymentEvent(BaseModel):
    """What a payment event changed."""

    outcome: PaymentOutcome | None  # None: it had been processed before


class PaymentEventNotFound(Refused):
    """The tenant does not have the payment event."""


class PaymentEventInvalid(Refused):
    """The payment provider's event cannot be understood."""


class PaymentEventBody(BaseModel):
    """The body of a payment event, in the format that Standard Webhooks recommends."""

    type: str
    timestamp: Instant  # when it happened
    data: dict[str, Any]  # JSON


class SubscriptionData(BaseModel):
    """The complete subscription at the time of the event."""

    plan: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    current_period_end: Instant | None = None
    status: str | None = None  # the provider's name for it


async def receive_payment_event(session: AsyncSession, event: VerifiedEvent) -> bool:
    """Stores a verified event and enqueues its job, in the transaction of `session`.

    `session` is the open `tenant_session()` of the event's tenant. Returns False, and enqueues
    nothing, if the event was stored before.
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
    """Applies the event to the subscription, once, unless a later event was applied first."""
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
    body = _read(PaymentEventBody, event.body, event.event_id)
    if body.timestamp > event.sent_at + TOLERANCE:
        # It would win against every later event.
        raise PaymentEventInvalid(
            f"payment event {event.event_id} has a timestamp after the time it was sent. "
            "The provider's clock is wrong: have the event sent again with another id."
        )
    if body.type not in STATUS_AFTER:
        return PaymentOutcome.IGNORED
    data = _read(SubscriptionData, body.data, event.event_id)
    status = _status(body.type, data, event.event_id)
    values = {
        "tenant": current_tenant(),
        "plan": data.plan,
        "status": status,
        "period_end": data.current_period_end,
        "at": body.timestamp,
        "event_id": event.event_id,
    }
    before = None
    if (await session.scalar(_CREATE, values)) is None:
        subscription = await session.scalar(select(Subscription).with_for_update())
        assert subscription is not None
        await session.execute(_START, values)
        if not await _is_later(session, subscription, event, body):
            return PaymentOutcome.SUPERSEDED
        before = subscription.status
        await session.execute(_CHANGE, values)
    action = "renewed" if before == status else status.value
    await audit.record(
        session,
        f"subscription.{action}",
        event.event_id,
        plan=data.plan,
        happened_at=body.timestamp.astimezone(UTC).isoformat(),
    )
    return PaymentOutcome.APPLIED


def _status(type_: str, data: SubscriptionData, event_id: str) -> SubscriptionStatus:
    """Returns the status that a `subscription.*` event names, or else the status for its type."""
    if data.status is None or not type_.startswith("subscription."):
        return STATUS_AFTER[type_]
    named = STATUS_NAMED.get(data.status)
    if named is None:
        raise PaymentEventInvalid(
            f"payment event {event_id} names an unknown status. The known ones are "
            f"{', '.join(STATUS_NAMED)}."
        )
    return named


async def _is_later(
    session: AsyncSession, subscription: Subscription, event: PaymentEvent, body: PaymentEventBody
) -> bool:
    """Returns whether an event wins against the one that last changed the subscription.

    The events' own timestamps decide, in whatever order they arrive. Providers write whole seconds,
    and one change sends several events: at the same moment, the later in a subscription's life
    wins, then the one sent later. Ids break remaining ties, so that every order gives the same row.
    """
    if body.timestamp != subscription.changed_at:
        return body.timestamp > subscription.changed_at
    last = await session.scalar(
        select(PaymentEvent).where(PaymentEvent.event_id == subscription.changed_by)
    )
    if last is None:
        return True
    return _place(event, body) > _place(last, _read(PaymentEventBody, last.body, last.event_id))


def _place(event: PaymentEvent, body: PaymentEventBody) -> tuple[int, datetime, str]:
    return list(STATUS_AFTER).index(body.type), event.sent_at, event.event_id


def _read(model: type[Model], value: bytes | dict[str, Any], event_id: str) -> Model:
    """Returns the value as `model`, ignoring unknown fields; raises `PaymentEventInvalid`."""
    try:
        if isinstance(value, bytes):
            return model.model_validate_json(value)
        return model.model_validate(value)
    except ValidationError as error:
        raise PaymentEventInvalid(refusal(error, f"payment event {event_id}").message) from None
