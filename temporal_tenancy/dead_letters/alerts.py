"""Telling people: a line in the log and a notification, and not all the time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.postgres.lock_timeouts import wait_for_locks

PAUSE: Final = timedelta(hours=1)  # between two alerts of one name, or of one tenant
NAMED: Final = 5  # tenants in the sentence of one alert
SINK_TIMEOUT: Final = 10.0  # seconds
TELLING: Final = timedelta(seconds=30)  # that one waits for another who tells of the same

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """What people are told: facts to look it up by, and nothing of a job's input."""

    name: str  # what of; of one name, or of its tenants, there is one an hour
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
# Of several tenants those that nobody was told of within the hour. In order, against deadlocks.
_CLAIM_TENANTS: Final = text("""
    insert into alerts as told (name, sent_at)
    select :name || '/' || tenant, now()
    from unnest(cast(:tenants as text[])) as late (tenant)
    order by tenant
    on conflict (name) do update set sent_at = now()
     where told.sent_at <= now() - cast(:pause as interval)
    returning told.name
""")
_SUPPRESS: Final = text("update alerts set suppressed = suppressed + :count where name = :name")


async def tell(
    session: AsyncSession,
    alert: Alert,
    sinks: Sequence[AlertSink],
    *,
    count: int = 1,
    sink_timeout: float = SINK_TIMEOUT,
) -> bool:
    """Sends an alert, unless one of its name was sent within the hour; returns whether it did.

    What is held back is counted, `count` a time, and the next alert of the name says how much it
    was. `session` is the platform's or the relay's; an alert counts as sent when it commits. A sink
    is given up after `sink_timeout` seconds.
    """
    await wait_for_locks(session, TELLING)
    before = await session.scalar(_CLAIM, {"name": alert.name, "pause": PAUSE})
    if before is None:
        await session.execute(_SUPPRESS, {"name": alert.name, "count": count})
        return False
    if before:
        alert = replace(alert, details={**alert.details, "suppressed": before})
    await _send_to_all(sinks, alert, sink_timeout)
    return True


async def tell_by_tenant(
    session: AsyncSession,
    name: str,
    since: Mapping[str, datetime],
    alert: Callable[[Mapping[str, datetime]], Alert],
    sinks: Sequence[AlertSink],
    *,
    sink_timeout: float = SINK_TIMEOUT,
) -> bool:
    """Sends one alert of the tenants that none of this name has told of within the hour.

    The hour is each tenant's own: one that gives cause all the time hides no other.

    Args:
        session: as for `tell`.
        name: of the alert.
        since: when it began for each tenant that gives cause now.
        alert: makes the alert of those whom it is to tell of, who waits for longest first.
        sinks: the ways to people.
        sink_timeout: seconds after which a sink is given up.
    """
    if not since:
        return False
    await wait_for_locks(session, TELLING)
    values = {"name": name, "tenants": list(since), "pause": PAUSE}
    claimed = await session.scalars(_CLAIM_TENANTS, values)
    new = [claim.removeprefix(f"{name}/") for claim in claimed]
    if new:
        oldest_first = sorted(new, key=lambda tenant: (since[tenant], tenant))
        of_new = alert({tenant: since[tenant] for tenant in oldest_first})
        await _send_to_all(sinks, of_new, sink_timeout)
    return bool(new)


def named(tenants: Collection[str]) -> str:
    """Some of these tenants by name, and how many more there are."""
    more = len(tenants) - NAMED
    return ", ".join(islice(tenants, NAMED)) + (f" and {more:,} more" if more > 0 else "")


async def _send_to_all(sinks: Sequence[AlertSink], alert: Alert, sink_timeout: float) -> None:
    log.critical(
        "alert.raised",
        extra={"alert": alert.name, "summary": alert.summary, "details": dict(alert.details)},
    )
    await asyncio.gather(*(_send(sink, alert, sink_timeout) for sink in sinks))


async def _send(sink: AlertSink, alert: Alert, sink_timeout: float) -> None:
    try:
        async with asyncio.timeout(sink_timeout):
            await sink.send(alert)
    except Exception:
        log.exception("alert.not_sent", extra={"alert": alert.name, "sink": type(sink).__name__})
