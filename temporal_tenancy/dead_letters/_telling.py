"""Alerts about dead letters: new ones, too many open ones, and old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row

from temporal_tenancy.core.words import duration, number
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.alert_words import DEAD_LETTERS
from temporal_tenancy.dead_letters.alerts import (
    SINK_TIMEOUT,
    Alert,
    AlertSink,
    named,
    tell,
    tell_by_tenant,
)
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.postgres.library_text import library_text

DEPTH: Final = 1_000  # open letters; more raise an alert
AGE: Final = timedelta(days=1)  # of an open letter; an older one raises an alert
KINDS_AT_ONCE: Final = 100  # kinds of new letters that one sweep alerts about
LETTERS_AT_ONCE: Final = 10_000  # new letters that it reads to find them

# A letter that a tenant has locked is left for the next sweep and delays no other alert.
# Tenants take turns, so one that fails in very many ways gets one kind in each turn.
_KINDS: Final = library_text("""
    with free as materialized (
        select tenant_id, fingerprint from tenancy.dead_letters
        where told_at is null
        limit :letters
        for update skip locked
    ), kinds as (
        select fingerprint, row_number() over (partition by tenant_id order by fingerprint) as turn
        from (select distinct tenant_id, fingerprint from free) as its_own
    )
    select fingerprint from kinds
    group by fingerprint
    order by min(turn), fingerprint
    limit :limit
""")
_TOLD: Final = library_text("""
    with free as materialized (
        select tenant_id, id from tenancy.dead_letters
        where fingerprint = :fingerprint and told_at is null
        for update skip locked
    )
    update tenancy.dead_letters as letter set told_at = now()
    from free
    where letter.tenant_id = free.tenant_id and letter.id = free.id
    returning letter.tenant_id, letter.job, letter.error_type, letter.workflow_id
""")


async def tell_of_dead_letters(
    sinks: Sequence[AlertSink], *, sink_timeout: float = SINK_TIMEOUT
) -> int:
    """Sends the alerts that are due: for new letters, more than `DEPTH` open, or older than `AGE`.

    A new letter is done once its alert has been sent or suppressed.

    Args:
        sinks: receive each alert, in addition to the log.
        sink_timeout: seconds to wait for each sink.

    Returns:
        How many alerts were sent.

    Raises:
        LockHeld: another process has been sending one of these alerts for 30 seconds.
    """
    async with platform_session("read which dead letters are new") as session:
        limits = {"limit": KINDS_AT_ONCE, "letters": LETTERS_AT_ONCE}
        kinds = (await session.scalars(_KINDS, limits)).all()
    sent = 0
    for kind in kinds:
        async with platform_session("send an alert for new dead letters") as session:
            new = (await session.execute(_TOLD, {"fingerprint": kind})).all()
            if new:
                alert = _of_new(kind, new)
                sent += await tell(session, alert, sinks, count=len(new), sink_timeout=sink_timeout)
    async with platform_session("read how many dead letters there are") as session:
        depths = await letters.depths(session)
    open_letters = sum(depth.letters for depth in depths)
    async with platform_session("send alerts for open dead letters") as session:
        if open_letters > DEPTH:
            alert = _of_too_many(depths, open_letters)
            sent += await tell(session, alert, sinks, sink_timeout=sink_timeout)
        before = datetime.now(UTC) - AGE
        since = {depth.tenant_id: depth.oldest for depth in depths if depth.oldest < before}
        sent += await tell_by_tenant(
            session, "dead_letters.age", since, _of_old, sinks, sink_timeout=sink_timeout
        )
    return sent


def _of_new(fingerprint: str, new: Sequence[Row[Any]]) -> Alert:
    first = new[0]
    tenants = len({row.tenant_id for row in new})
    return Alert(
        name=f"dead_letter.{fingerprint}",
        words=DEAD_LETTERS,
        summary=f"{len(new)} of {first.job} failed permanently with {first.error_type}.",
        details={
            "job": first.job,
            "error_type": first.error_type,
            "fingerprint": fingerprint,
            "letters": len(new),
            "tenants": tenants,
            "workflow_id": first.workflow_id,
        },
    )


def _of_too_many(depths: Sequence[letters.Depth], open_letters: int) -> Alert:
    most = max(depths, key=lambda depth: depth.letters)
    return Alert(
        name="dead_letters.depth",
        words=DEAD_LETTERS,
        summary=(
            f"{number(open_letters, 'dead letter is', 'dead letters are')} open, more than the "
            f"limit of {DEPTH:,}. {most.tenant_id} has the most, {most.letters:,}."
        ),
        details={
            "open": open_letters,
            "limit": DEPTH,
            "tenant_id": most.tenant_id,
            "tenants": len(depths),
        },
    )


def _of_old(since: Mapping[str, datetime]) -> Alert:
    oldest, failed_at = next(iter(since.items()))
    open_for = datetime.now(UTC) - failed_at
    return Alert(
        name="dead_letters.age",
        words=DEAD_LETTERS,
        summary=f"Dead letters of {named(since)} have been open for up to {duration(open_for)}.",
        details={
            "tenant_id": oldest,
            "hours": open_for // timedelta(hours=1),
            "limit_hours": int(AGE.total_seconds() // 3600),
            "tenants": len(since),
        },
    )
