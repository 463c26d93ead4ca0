"""Alerts: a log line and a notification, at most once an hour for each name or tenant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.dead_letters.alert_words import AlertWords
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.lock_timeouts import wait_for_locks

PAUSE: Final = timedelta(hours=1)
"""The minimum time between two alerts of the same name, or of the same tenant."""
NAMED: Final = 5  # tenants listed in an alert's summary
SINK_TIMEOUT: Final = 10.0  # seconds
TELLING: Final = timedelta(seconds=30)  # lock timeout: another process sends the same alert

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """What an alert says: facts to look the problem up by, and nothing from a job's input."""

    name: str  # of the kind of problem; limits how often it is sent
    summary: str  # one sentence
    details: Mapping[str, str | int] = field(default_factory=dict)
    severity: Literal["critical"] = "critical"
    words: AlertWords | None = None  # None: the alert has no page and no command


class AlertSink(Protocol):
    """Delivers alerts to people, for example by mail or webhook."""

    async def send(self, alert: Alert) -> None:
        """Sends an alert; an exception is logged and does not affect the other sinks."""


# The row stays locked until the alert has been sent, so a concurrent caller waits and then finds
# it sent. Tenant roles have no access to this table.
_CLAIM: Final = library_text("""
    -- Locked and read before the update: RETURNING has no old values before PostgreSQL 18.
    with before as materialized (
        select suppressed from tenancy.alerts where name = :name for update
    )
    insert into tenancy.alerts as existing (name, sent_at)
    select :name, now() from (select count(*) from before) as locked
    on conflict (name) do update set sent_at = now(), suppressed = 0
     where existing.sent_at <= now() - cast(:pause as interval)
    returning coalesce((select suppressed from before), 0)
""")
# Returns the tenants without an alert within the hour. Sorted, so that callers cannot deadlock.
_CLAIM_TENANTS: Final = library_text("""
    insert into tenancy.alerts as existing (name, sent_at)
    select :name || '/' || tenant, now()
    from unnest(cast(:tenants as text[])) as late (tenant)
    order by tenant
    on conflict (name) do update set sent_at = now()
     where existing.sent_at <= now() - cast(:pause as interval)
    returning existing.name
""")
_SUPPRESS: Final = library_text(
    "update tenancy.alerts set suppressed = suppressed + :count where name = :name"
)


async def tell(
    session: AsyncSession,
    alert: Alert,
    sinks: Sequence[AlertSink],
    *,
    count: int = 1,
    sink_timeout: float = SINK_TIMEOUT,
) -> bool:
    """Sends an alert unless one of the same name was sent within the hour.

    The next alert of that name reports how many events were suppressed.

    Args:
        session: of the platform or the relay; the alert counts as sent once it commits.
        alert: what to send.
        sinks: receive the alert, in addition to the log.
        count: how many events the alert stands for.
        sink_timeout: seconds to wait for each sink.

    Returns:
        Whether the alert was sent.

    Raises:
        LockHeld: another process has been sending an alert of this name for 30 seconds.
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
    """Sends one alert about all tenants that had no alert of this name within the hour.

    Each tenant has its own hour, so one with constant problems does not hide the others.

    Args:
        session: as for `tell`.
        name: of the alert.
        since: when the problem began (aware), by the id of each affected tenant.
        alert: builds the alert from the tenants to report, the longest affected first.
        sinks: receive the alert, in addition to the log.
        sink_timeout: seconds to wait for each sink.

    Returns:
        Whether an alert was sent.

    Raises:
        LockHeld: as for `tell`.
    """
    if not since:
        return False
    await wait_for_locks(session, TELLING)
    values = {"name": name, "tenants": list(since), "pause": PAUSE}
    claimed = await session.scalars(_CLAIM_TENANTS, values)
    new = [claim.removeprefix(f"{name}/") for claim in claimed]
    if new:
        oldest_first = sorted(new, key=lambda tenant: (since[tenant], tenant))
        new_alert = alert({tenant: since[tenant] for tenant in oldest_first})
        await _send_to_all(sinks, new_alert, sink_timeout)
    return bool(new)


def named(tenants: Collection[str]) -> str:
    """Returns the first five tenants as text, and how many more there are."""
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
