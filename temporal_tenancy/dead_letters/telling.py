"""What people are told of dead letters: new ones, too many, and too old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, text

from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.alerts import (
    SINK_TIMEOUT,
    Alert,
    AlertSink,
    named,
    tell,
    tell_by_tenant,
)
from temporal_tenancy.postgres.database import platform_session

DEPTH: Final = 1_000  # open letters above which people are told
AGE: Final = timedelta(days=1)  # of an open letter, likewise
KINDS_AT_ONCE: Final = 100  # of new letters that people are told of in one sweep
LETTERS_AT_ONCE: Final = 10_000  # that are looked at for them

# What a tenant has locked waits until it is free, and nobody's alert waits with it.
# Tenants take turns: one that fails in very many ways is one kind in each turn.
_KINDS: Final = text("""
    with free as materialized (
        select tenant_id, fingerprint from dead_letters
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
_TOLD: Final = text("""
    with free as materialized (
        select tenant_id, id from dead_letters
        where fingerprint = :fingerprint and told_at is null
        for update skip locked
    )
    update dead_letters as letter set told_at = now()
    from free
    where letter.tenant_id = free.tenant_id and letter.id = free.id
    returning letter.tenant_id, letter.job, letter.error_type, letter.workflow_id
""")


async def tell_of_dead_letters(
    sinks: Sequence[AlertSink], *, sink_timeout: float = SINK_TIMEOUT
) -> int:
    """Tells of what is new, of too many and of too old ones; returns how many alerts were sent.

    A letter counts as told when its alert has been sent or held back. A sink is given up after
    `sink_timeout` seconds.
    """
    async with platform_session("read what people were not told of") as session:
        limits = {"limit": KINDS_AT_ONCE, "letters": LETTERS_AT_ONCE}
        kinds = (await session.scalars(_KINDS, limits)).all()
    sent = 0
    for kind in kinds:
        async with platform_session("tell of new dead letters") as session:
            new = (await session.execute(_TOLD, {"fingerprint": kind})).all()
            if new:
                alert = _of_new(kind, new)
                sent += await tell(session, alert, sinks, count=len(new), sink_timeout=sink_timeout)
    async with platform_session("read how many dead letters there are") as session:
        depths = await letters.depths(session)
    open_letters = sum(depth.letters for depth in depths)
    async with platform_session("tell of dead letters") as session:
        if open_letters > DEPTH:
            alert = _of_too_many(depths, open_letters)
            sent += await tell(session, alert, sinks, sink_timeout=sink_timeout)
        before = datetime.now(UTC) - AGE
        since = {each.tenant_id: each.oldest for each in depths if each.oldest < before}
        sent += await tell_by_tenant(
            session, "dead_letters.age", since, _of_old, sinks, sink_timeout=sink_timeout
        )
    return sent


def _of_new(fingerprint: str, new: Sequence[Row[Any]]) -> Alert:
    first = new[0]
    tenants = len({row.tenant_id for row in new})
    return Alert(
        name=f"dead_letter.{fingerprint}",
        summary=f"{len(new)} of {first.job} failed for good with {first.error_type}.",
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
        summary=(
            f"{open_letters:,} dead letters are open, and more than {DEPTH:,} are too many. "
            f"{most.tenant_id} has the most, {most.letters:,}."
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
    hours = int((datetime.now(UTC) - failed_at).total_seconds() // 3600)
    return Alert(
        name="dead_letters.age",
        summary=f"dead letters of {named(since)} have been open for up to {hours} hours.",
        details={
            "tenant_id": oldest,
            "hours": hours,
            "limit_hours": int(AGE.total_seconds() // 3600),
            "tenants": len(since),
        },
    )
