"""The outbox as a queue: the relay's SQL, which works on the messages of all tenants.

The cost does not grow with the backlog. A recursive query skips through the index from one tenant
with messages to the next, and one index descent per priority finds a tenant's next messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.payloads import UNKNOWN
from temporal_tenancy.dead_letters.payload_texts import PAYLOAD_TEXT, Key, payload_texts
from temporal_tenancy.outbox.enqueueing import CORRELATION_MAX_CHARACTERS
from temporal_tenancy.outbox.marks import Holder, completing, failing, named
from temporal_tenancy.outbox.relay.messages import Message, Unit
from temporal_tenancy.outbox.tables import (
    IS_AN_ID,
    IS_COMPLETED,
    IS_PROCESSING,
    IS_PROCESSING_BY_KEY,
    IS_WAITING,
)
from temporal_tenancy.outbox.transitions import (
    CLAIMED,
    GIVEN_BACK,
    HANDED_OVER,
    ONE_MORE_ATTEMPT,
    RELEASED,
)
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.tenant_walk import tenants_with

PRUNE_ROWS: Final = 5_000  # deleted per statement
TOGETHER_ROWS: Final = 1_000  # messages of one workflow, read at once

# The tenant's role may have written anything that the columns accept. So the relay cuts texts,
# reads no times (Python may be unable to represent them), and reads JSON only as text.
TEXT_MAX: Final = 300  # characters; longer than any valid name, key or workflow id
_OTHERS: Final = f"""
    m.tenant_id, m.id, left(m.job, {TEXT_MAX}) as job, left(m.key, {TEXT_MAX}) as key, m.priority,
    m.attempts, left(m.correlation_id, {CORRELATION_MAX_CHARACTERS}) as correlation_id,
    left(m.workflow_id, {TEXT_MAX}) as workflow_id, m.traceparent,
    case when isfinite(m.scheduled_at)
        then cast(extract(epoch from clock_timestamp() - m.scheduled_at) as float8)
    end as due_for
"""
_RETURNED: Final = f"{_OTHERS}, {PAYLOAD_TEXT} as payload"
_BLIND: Final = f"{_OTHERS}, '{UNKNOWN}' as payload"
_TAKE: Final = f"update tenancy.outbox_messages as m set {CLAIMED}"

_TENANTS: Final = tenants_with("tenancy.outbox_messages", IS_WAITING)

_CLAIM: Final = f"""
    with picked as materialized (
        select message.tenant_id, message.id
        from unnest(cast(:tenants as text[]), cast(:quotas as int[])) as share (tenant_id, quota)
        cross join lateral (
            select next.tenant_id, next.id
            from generate_series(1, 5) as level
            cross join lateral (
                select tenant_id, id from tenancy.outbox_messages
                where tenant_id = share.tenant_id and priority = level
                    and {IS_WAITING} and scheduled_at <= now()
                order by scheduled_at, id
                limit share.quota
                for update skip locked
            ) as next
            limit share.quota
        ) as message
    )
    {_TAKE}
    from picked
    where m.tenant_id = picked.tenant_id and m.id = picked.id
    returning
"""
CLAIM: Final = library_text(f"{_CLAIM} {_RETURNED}")
_CLAIM_BLIND: Final = library_text(f"{_CLAIM} {_BLIND}")

_MORE: Final = f"""
    with picked as materialized (
        select message.tenant_id, message.id
        from unnest(cast(:tenants as text[]), cast(:jobs as text[]), cast(:counts as int[]))
            as wanted (tenant_id, job, how_many)
        cross join lateral (
            select tenant_id, id from tenancy.outbox_messages
            where tenant_id = wanted.tenant_id and job = wanted.job
                and {IS_WAITING} and scheduled_at <= now()
            limit wanted.how_many
            for update skip locked
        ) as message
    )
    {_TAKE}
    from picked
    where m.tenant_id = picked.tenant_id and m.id = picked.id
    returning
"""
_CLAIM_MORE: Final = library_text(f"{_MORE} {_RETURNED}")
_CLAIM_MORE_BLIND: Final = library_text(f"{_MORE} {_BLIND}")

# Reads pages without locks, so that one tenant's lost messages do not block others. A page includes
# all rows with its last time (`with ties`), so that the next page can start after that time.
_LOST: Final = f"""
    select tenant_id, id, until from (
        select tenant_id, id, attempts, lease_until, lease_until::text as until
        from tenancy.outbox_messages
        where {IS_PROCESSING} and lease_until < now() {{after}}
        order by lease_until
        fetch first (cast(:rows as bigint)) rows with ties
    ) as page
    order by lease_until, attempts
"""
_LOST_FIRST: Final = library_text(_LOST.format(after=""))
_LOST_NEXT: Final = library_text(
    _LOST.format(after="and lease_until > cast(:after as timestamptz)")
)
# Takes one message at a time: if it kills the relay, no other message is lost with it.
_TAKE_LOST: Final = library_text(f"""
    with picked as materialized (
        select tenant_id, id from tenancy.outbox_messages
        where tenant_id = :tenant and id = :id and {IS_PROCESSING} and lease_until < now()
        for update skip locked
    )
    update tenancy.outbox_messages as m
    set lease_until = now() + :lease,
        attempts = case when m.workflow_id is null then {ONE_MORE_ATTEMPT} else m.attempts end
    from picked
    where m.tenant_id = picked.tenant_id and m.id = picked.id
    returning {_BLIND}
""")

_READ_BRIEFLY: Final = text("set local statement_timeout = '1s'")

_MARKED: Final = f"""
    from unnest(cast(:tenants as text[]), cast(:ids as uuid[])) as marked (tenant_id, id)
    where m.tenant_id = marked.tenant_id and m.id = marked.id and {IS_PROCESSING_BY_KEY}
"""
_RELEASE: Final = library_text(f"""
    update tenancy.outbox_messages as m
    set {RELEASED}
    from unnest(
        cast(:tenants as text[]), cast(:ids as uuid[]), cast(:attempts as int[])
    ) as released (tenant_id, id, attempts)
    where m.tenant_id = released.tenant_id and m.id = released.id
        -- Another relay may have it by now, with a later attempt.
        and {IS_PROCESSING_BY_KEY} and m.attempts = released.attempts
""")
_HAND_OVER: Final = library_text(f"""
    update tenancy.outbox_messages as m
    set {HANDED_OVER}
    {_MARKED}
""")
_TOGETHER: Final = library_text(f"""
    select {_BLIND}
    from tenancy.outbox_messages as m
    where m.tenant_id = :tenant and m.workflow_id = :workflow_id and m.{IS_PROCESSING}
        and {IS_AN_ID}
    limit {TOGETHER_ROWS}
    for update skip locked
""")
_GIVE_BACK: Final = library_text(f"""
    update tenancy.outbox_messages as m
    set {GIVEN_BACK}
    {_MARKED}
""")
# Skips locked rows: their leases expire, and they are checked separately.
_EXTEND: Final = library_text(f"""
    with free as materialized (
        select tenant_id, id from tenancy.outbox_messages
        where tenant_id = :tenant and workflow_id = :workflow_id and {IS_PROCESSING}
            and {IS_AN_ID}
        for update skip locked
    )
    update tenancy.outbox_messages as m set lease_until = now() + :lease
    from free
    where m.tenant_id = free.tenant_id and m.id = free.id
""")
# The tables that tenants can lock and that marks are written to.
_REQUIRE_TABLES: Final = library_text(
    "lock table tenancy.outbox_messages, tenancy.dead_letters in row exclusive mode nowait"
)
_PRUNE: Final = library_text(f"""
    delete from tenancy.outbox_messages as m
    using (
        select tenant_id, id from tenancy.outbox_messages
        where {IS_COMPLETED} and completed_at < now() - cast(:keep as interval)
        order by completed_at
        limit :limit
        for update skip locked
    ) as old
    where m.tenant_id = old.tenant_id and m.id = old.id
""")
_TAKE_SLOTS: Final = library_text("""
    insert into tenancy.in_flight (tenant_id, workflow_id)
    select * from unnest(cast(:tenants as text[]), cast(:ids as text[]))
    on conflict (tenant_id, workflow_id) do update set since = now(), checked_at = now()
""")
_FREE_SLOTS: Final = library_text("""
    delete from tenancy.in_flight
    using unnest(cast(:tenants as text[]), cast(:ids as text[])) as ended (tenant_id, workflow_id)
    where in_flight.tenant_id = ended.tenant_id and in_flight.workflow_id = ended.workflow_id
""")
_SLOTS_TO_CHECK: Final = library_text("""
    update tenancy.in_flight as slot set checked_at = now()
    from (
        select tenant_id, workflow_id from tenancy.in_flight
        where checked_at < now() - cast(:age as interval)
        order by checked_at
        limit :limit
        for update skip locked
    ) as old
    where slot.tenant_id = old.tenant_id and slot.workflow_id = old.workflow_id
    returning slot.tenant_id, slot.workflow_id
""")


# A started workflow exists, no matter who holds its message, so completing has no condition. After
# a failed attempt another relay may have begun a later one, so failing compares the attempts.
RELAY: Final = Holder(
    completing(IS_PROCESSING_BY_KEY),
    failing(f"{IS_PROCESSING_BY_KEY} and m.attempts = failed.attempts"),
)
"""A relay as the holder of messages, which it recognises as its own by their attempt."""


async def waiting_tenants(session: AsyncSession, *, after: str, limit: int) -> list[str]:
    """Returns up to `limit` tenants after `after` that have waiting messages, due or not."""
    found = await session.execute(_TENANTS, {"after": after, "limit": limit})
    return [row.tenant_id for row in found]


async def claim(
    session: AsyncSession, quotas: Mapping[str, int], *, lease: timedelta, one_by_one: bool = False
) -> list[Message]:
    """Claims up to `quotas[tenant]` due messages of each tenant, the most urgent and oldest first.

    Skips messages that another relay holds. A claim counts as an attempt, so that a message that
    kills the process is not claimed forever. With `one_by_one` a payload that the database cannot
    write as text does not fail the claim: it is read separately, as `UNKNOWN`.
    """
    if not quotas:
        return []
    values = {"tenants": list(quotas), "quotas": list(quotas.values()), "lease": lease}
    if one_by_one:
        return await _with_payloads(session, _in_order(await session.execute(_CLAIM_BLIND, values)))
    return _in_order(await session.execute(CLAIM, values))


async def claim_more(
    session: AsyncSession,
    wanted: Mapping[tuple[str, str], int],
    *,
    lease: timedelta,
    one_by_one: bool = False,
) -> list[Message]:
    """Claims more due messages, up to `wanted[tenant, job]`; `one_by_one` is as for `claim`."""
    if not wanted:
        return []
    values = {
        "tenants": [tenant for tenant, _ in wanted],
        "jobs": [job for _, job in wanted],
        "counts": list(wanted.values()),
        "lease": lease,
    }
    if one_by_one:
        blind = _in_order(await session.execute(_CLAIM_MORE_BLIND, values))
        return await _with_payloads(session, blind)
    return _in_order(await session.execute(_CLAIM_MORE, values))


async def lost(
    session: AsyncSession, *, rows: int, after: str | None = None
) -> tuple[list[Key], str | None]:
    """Finds a page of about `rows` lost messages, whose leases expired before they were marked.

    Does not claim them. Returns their tenants and ids, the oldest leases first, and the `after` of
    the next page, or None on the last page.
    """
    statement = _LOST_FIRST if after is None else _LOST_NEXT
    values = {"rows": rows} if after is None else {"rows": rows, "after": after}
    found = (await session.execute(statement, values)).all()
    more = found[-1].until if len(found) >= rows else None
    return [(row.tenant_id, row.id) for row in found], more


async def take_lost(session: AsyncSession, key: Key, *, lease: timedelta) -> Message | None:
    """Claims one lost message; returns None if another relay claimed it, or it is locked.

    This counts as an attempt, unless a workflow handles the message together with others: then the
    claim only serves to check on that workflow.
    """
    tenant, id = key
    values = {"tenant": tenant, "id": id, "lease": lease}
    row = (await session.execute(_TAKE_LOST, values)).one_or_none()
    if row is None:
        return None
    [message] = await _with_payloads(session, [_message(row)])
    return message


async def hand_over(session: AsyncSession, units: Iterable[Unit], *, lease: timedelta) -> None:
    """Records the workflow that handles the messages of each (coalesced) unit, with its lease."""
    for unit in units:
        values = {"workflow_id": unit.workflow_id, "lease": lease}
        await session.execute(_HAND_OVER, named(unit.messages) | values)


async def extend(session: AsyncSession, message: Message, *, lease: timedelta) -> None:
    """Extends the lease of all messages of the workflow that handles `message`."""
    values = {"tenant": message.tenant_id, "workflow_id": message.workflow_id, "lease": lease}
    await session.execute(_EXTEND, values)


async def together_with(session: AsyncSession, message: Message) -> list[Message]:
    """Returns the unmarked messages of the workflow that handles `message`, including itself.

    Their payloads, which no caller needs, are not read.
    """
    values = {"tenant": message.tenant_id, "workflow_id": message.workflow_id}
    return _in_order(await session.execute(_TOGETHER, values))


async def give_back(
    session: AsyncSession, messages: Sequence[Message], *, error_type: str, error_message: str
) -> None:
    """Returns messages whose attempt had no result to the queue, for an immediate next attempt."""
    values = {"error_type": error_type, "error_message": error_message}
    await session.execute(_GIVE_BACK, named(messages) | values)


async def require_tables(session: AsyncSession) -> None:
    """Raises `LockHeld` if a whole table that marks are written to is locked."""
    await session.execute(_REQUIRE_TABLES)


async def release(session: AsyncSession, messages: Sequence[Message]) -> None:
    """Returns messages to the queue as they were before the claim, without counting an attempt."""
    if messages:
        attempts = [message.attempts for message in messages]
        await session.execute(_RELEASE, named(messages) | {"attempts": attempts})


async def prune(session: AsyncSession, *, keep: timedelta) -> int:
    """Deletes a batch of messages completed more than `keep` ago; returns how many."""
    done = await session.execute(_PRUNE, {"keep": keep, "limit": PRUNE_ROWS})
    return int(getattr(done, "rowcount", 0))


async def take_slots(session: AsyncSession, units: Sequence[Unit]) -> None:
    """Records workflows that count against their tenants' caps from now on."""
    await _slots(session, _TAKE_SLOTS, [(unit.tenant_id, unit.workflow_id) for unit in units])


async def free_slots(session: AsyncSession, workflows: Sequence[tuple[str, str]]) -> None:
    """Frees the slots of workflows, by tenant and id, that have ended or were not started."""
    await _slots(session, _FREE_SLOTS, workflows)


async def slots_to_check(
    session: AsyncSession, *, age: timedelta, limit: int
) -> list[tuple[str, str]]:
    """Claims the slots not checked for `age`; returns their workflows, by tenant and id."""
    found = await session.execute(_SLOTS_TO_CHECK, {"age": age, "limit": limit})
    return [(row.tenant_id, row.workflow_id) for row in found]


async def _with_payloads(session: AsyncSession, messages: Sequence[Message]) -> list[Message]:
    keys = [(message.tenant_id, message.id) for message in messages]
    await session.execute(_READ_BRIEFLY)
    texts = await payload_texts(session, keys)
    return [
        replace(message, payload=texts.get(key, UNKNOWN))
        for key, message in zip(keys, messages, strict=True)
    ]


async def _slots(
    session: AsyncSession, statement: TextClause, workflows: Sequence[tuple[str, str]]
) -> None:
    if workflows:
        tenants, ids = zip(*workflows, strict=True)
        await session.execute(statement, {"tenants": list(tenants), "ids": list(ids)})


def _in_order(rows: Iterable[Row[Any]]) -> list[Message]:  # rows have columns of several types
    found = [_message(row) for row in rows]
    return sorted(found, key=lambda message: (message.priority, message.id))


def _message(row: Row[Any]) -> Message:  # columns of several types
    return Message(**row._mapping)
