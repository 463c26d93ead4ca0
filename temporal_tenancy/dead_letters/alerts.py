"""Telling people: a line in the log and a notification, and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Literal, Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.lock_timeouts import wait_for_locks

PAUSE: Final = timedelta(hours=1)  # between two alerts of one name
SINK_TIMEOUT: Final = 10.0  # seconds
TELLING: Final = timedelta(seconds=30)  # that one waits for another who tells of the same

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Alert:
    """What people are told: facts to look it up by, and nothing of a job's input."""

    name: str  # what of; of one name there is one an hour
    summary: str  # a sentence
    details: Mapping[str, str | int] = field(default_factory=dict)
    severity: Literal["critical"] = "critical"


class AlertSink(Protocol):
    """A way to people."""

    async def send(self, alert: Alert) -> None:
        """Tells them; whatever it raises is logged, and keeps no other sink from telling."""


# The row is locked until the alert has been sent: who comes at the same time waits, and is late.
# No tenant's role reaches this table.
_CLAIM: Final = text("""
    insert into alerts as told (name, sent_at) values (:name, now())
    on conflict (name) do update set sent_at = now(), suppressed = 0
     where told.sent_at <= now() - cast(:pause as interval)
    returning coalesce(old.suppressed, 0)
""")
_SUPPRESS: Final = text("update alerts set suppressed = suppressed + :count where name = :name")


async def tell(
    session: AsyncSession, alert: Alert, sinks: Sequence[AlertSink], *, count: int = 1
) -> bool:
    """Sends an alert, unless one of its name was sent within the hour; returns whether it did.

    What is held back is counted, `count` a time, and the next alert of the name says how much it
    was. `session` is the platform's or the relay's; an alert counts as sent when it commits.
    """
    await wait_for_locks(session, TELLING)
    before = await session.scalar(_CLAIM, {"name": alert.name, "pause": PAUSE})
    if before is None:
        await session.execute(_SUPPRESS, {"name": alert.name, "count": count})
        return False
    if before:
        alert = replace(alert, details={**alert.details, "suppressed": before})
    log.critical(
        "alert.raised", alert=alert.name, summary=alert.summary, details=dict(alert.details)
    )
    await asyncio.gather(*(_send(sink, alert) for sink in sinks))
    return True


async def _send(sink: AlertSink, alert: Alert) -> None:
    try:
        async with asyncio.timeout(SINK_TIMEOUT):
            await sink.send(alert)
    except Exception:
        log.exception("alert.not_sent", alert=alert.name, sink=type(sink).__name__)
