"""What a relay asks the database about the outbox and the dead letters, for the gauges.

All rows are counted by one scan of an index if there are no more than `ROWS`. Otherwise each tenant
is counted apart, up to a share of the rows, until the time for it is used up. A question so costs
the same whatever waits, and says when it has not seen everything.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Row, TextClause
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import IS_OPEN
from temporal_tenancy.core.directory import Tenant, TenantDirectory, TenantStatus
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics.catalogue import OTHER, Labels
from temporal_tenancy.metrics.gauges import LIMIT, Found
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.outbox.relay.admission import NOTHING, Decision
from temporal_tenancy.outbox.relay.queue import waiting_tenants
from temporal_tenancy.outbox.tables import IS_PROCESSING, IS_WAITING, MessageStatus
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.tenant_walk import tenants_with

if TYPE_CHECKING:
    from temporal_tenancy.outbox.relay.store_rounds import StoreView

ROWS: Final = 100_000
"""How many messages, and how many dead letters, are counted by the scan, and after it in shares."""
SECONDS: Final = 2.0
"""After which nothing more is asked about messages; the same for letters, and for tenants."""
TENANTS: Final = 1_000  # asked about by one statement

ListTenants = Callable[[AsyncSession, str, int], Awaitable[Sequence[str]]]


def _counted(name: str, when: str) -> str:
    """Returns SQL that counts a tenant's waiting messages of a time, by why they wait."""
    return f"""
        select count(*) as found,
            count(*) filter (where status = '{MessageStatus.PENDING}') as {name},
            count(*) filter (where status = '{MessageStatus.FAILED}') as retry
        from (
            select message.status from generate_series(1, 5) as level
            cross join lateral (
                select status from tenancy.outbox_messages
                where tenant_id = tenants.tenant_id and priority = level
                    and {IS_WAITING} and {when}
                order by scheduled_at limit :quota
            ) as message
            limit :quota
        ) as counted
    """


# The order is that of the index of what waits, so that no other index is read.
_MESSAGES: Final = library_text(f"""
    select tenant_id, count(*) as found,
        count(*) filter (where is_due and status = '{MessageStatus.PENDING}') as due,
        count(*) filter (where not is_due and status = '{MessageStatus.PENDING}') as later,
        count(*) filter (where status = '{MessageStatus.FAILED}') as retry,
        cast(extract(epoch from now() - min(scheduled_at) filter (
            where is_due and scheduled_at > '-infinity')) as float8) as due_for
    from (
        select tenant_id, status, scheduled_at, scheduled_at <= now() as is_due
        from tenancy.outbox_messages
        where {IS_WAITING} and tenant_id <> '{PLATFORM}'
        order by tenant_id, priority, scheduled_at limit :limit
    ) as waiting
    group by tenant_id order by tenant_id
""")
# Each tenant's rows are read through an index, up to a quota of its own, so that no tenant's rows
# use up another's part. Due and later messages have a quota each, and the oldest of each priority
# is found however many there are.
_MESSAGES_OF: Final = library_text(f"""
    select tenants.tenant_id, due.due, due.retry + later.retry as retry, later.later,
        due.found + later.found as found, greatest(due.found, later.found) as most, oldest.due_for
    from unnest(cast(:tenants as text[])) as tenants (tenant_id)
    cross join lateral ({_counted("due", "scheduled_at <= now()")}) as due
    cross join lateral ({_counted("later", "scheduled_at > now()")}) as later
    cross join lateral (
        select cast(extract(epoch from now() - min(scheduled_at)) as float8) as due_for
        from generate_series(1, 5) as level
        cross join lateral (
            select scheduled_at from tenancy.outbox_messages
            where tenant_id = tenants.tenant_id and priority = level
                and {IS_WAITING} and scheduled_at <= now() and scheduled_at > '-infinity'
            order by scheduled_at limit 1
        ) as message
    ) as oldest
""")
_PROCESSING: Final = library_text(f"""
    select count(*) from (
        select from tenancy.outbox_messages
        where {IS_PROCESSING} and tenant_id <> '{PLATFORM}'
        limit :limit
    ) as counted
""")
_AGE: Final = """
    cast(extract(epoch from now() - min(failed_at) filter (where isfinite(failed_at))) as float8)
"""
# A tenant may have written any name of a job.
_JOB: Final = f"case when job = any(cast(:jobs as text[])) then job else '{OTHER}' end"
_LETTERS: Final = library_text(f"""
    select tenant_id, job, count(*) as found, {_AGE} as age
    from (
        select tenant_id, {_JOB} as job, failed_at from tenancy.dead_letters
        where {IS_OPEN} order by tenant_id, failed_at limit :limit
    ) as open
    group by tenant_id, job order by tenant_id
""")
_LETTERS_OF: Final = library_text(f"""
    select tenants.tenant_id, counted.job, count(*) as found, count(*) as most, {_AGE} as age
    from unnest(cast(:tenants as text[])) as tenants (tenant_id)
    cross join lateral (
        select {_JOB} as job, failed_at from tenancy.dead_letters
        where tenant_id = tenants.tenant_id and {IS_OPEN}
        order by failed_at limit :quota
    ) as counted
    group by tenants.tenant_id, counted.job
""")
_LETTER_TENANTS: Final = tenants_with("tenancy.dead_letters", IS_OPEN)


@dataclass(frozen=True)
class _Waiting:
    """A tenant's messages in a store, like a row of the shared outbox."""

    tenant_id: str
    due: int
    later: int
    retry: int
    due_for: float | None  # seconds

    @classmethod
    def of(cls, view: StoreView) -> Self:
        """Returns what a relay has seen of a store."""
        backlog = view.backlog
        assert backlog is not None
        since = backlog.due_since
        return cls(
            view.tenant_id,
            due=backlog.pending - view.later,
            later=view.later,
            retry=backlog.failed,
            due_for=None if since is None else (datetime.now(UTC) - since).total_seconds(),
        )


class _Budget:
    """The time for one part of the question; what has begun is ended."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SECONDS

    @property
    def spent(self) -> bool:
        return time.monotonic() >= self._end


async def of_outbox(
    database: Database, directory: TenantDirectory, apart: Sequence[StoreView] = ()
) -> Found:
    """Counts the messages of the outbox and the open dead letters, by what they wait for.

    Of a dead letter's job only the names of this process's own jobs are told. `apart` is what a
    relay has last seen of the outboxes of tenants in databases of their own.
    """
    seen = [_Waiting.of(view) for view in apart if view.backlog is not None]
    away = sum(view.why is not None for view in apart)
    jobs = {"jobs": list(registry)}
    decided: dict[str, Decision] = {}
    running: dict[str, int] = {}
    async with database.platform_session("measure the outbox") as session:
        await session.execute(LIMIT)
        rows, in_part = await _count(session, _MESSAGES, _MESSAGES_OF, _waiting, {})
        letters, letters_in_part = await _count(session, _LETTERS, _LETTERS_OF, _failing, jobs)
        processing = (await session.scalars(_PROCESSING, {"limit": ROWS + 1})).one()
        budget = _Budget()
        asked: list[str] = []
        every: list[Any] = [*rows, *seen]  # a row has columns of several types
        for chunk in _chunks([row.tenant_id for row in every if row.due]):
            if asked and budget.spent:
                in_part = True
                break
            decided.update(await admission.decisions(session, chunk))
            running.update(await admission.in_flight(session, chunk))
            asked += chunk
    records: dict[str, Tenant] = {}
    for chunk in _chunks(asked):
        if records and budget.spent:
            in_part = True
            break
        records.update((tenant.id, tenant) for tenant in await directory.find_many(chunk))
    processing_apart = sum(view.backlog.processing for view in apart if view.backlog is not None)
    reasons: Counter[Labels] = Counter({("processing",): min(processing, ROWS) + processing_apart})
    oldest = 0.0
    for row in every:
        reason = _reason(
            records.get(row.tenant_id),
            decided.get(row.tenant_id, NOTHING),
            running.get(row.tenant_id, 0),
        )
        reasons[reason or "due",] += row.due
        reasons["later",] += row.later
        reasons["retry",] += row.retry
        if reason is None and row.due_for is not None:
            oldest = max(oldest, row.due_for)
    for reason in ("due", "later", "retry", "processing", "paused", "suspended", "capped"):
        reasons[reason,] += 0
    by_job: Counter[Labels] = Counter()
    for row in letters:
        by_job[row.job,] += row.found
    ages = [row.age for row in letters if row.age is not None]
    return {
        of.MESSAGES: {reason: float(count) for reason, count in reasons.items()},
        of.OLDEST_DUE: {(): oldest},
        of.STORES: {("answering",): float(len(apart) - away), ("away",): float(away)},
        of.LETTERS: {job: float(count) for job, count in by_job.items()},
        of.OLDEST_LETTER: {(): max(ages, default=0.0)},
        of.IN_PART: {("outbox",): float(in_part or letters_in_part or processing > ROWS)},
    }


def _reason(tenant: Tenant | None, decision: Decision, running: int) -> str | None:
    """Returns what holds back a tenant's due messages; None: nothing does."""
    if decision.paused_since is not None:
        return "paused"
    if tenant is not None and tenant.status is TenantStatus.SUSPENDED:
        return "suspended"
    cap = admission.cap_of(tenant, decision)
    return "capped" if cap is not None and running >= cap else None


async def _waiting(session: AsyncSession, after: str, limit: int) -> Sequence[str]:
    found = await waiting_tenants(session, after=after, limit=limit)
    return [tenant for tenant in found if tenant != PLATFORM]


async def _failing(session: AsyncSession, after: str, limit: int) -> Sequence[str]:
    values = {"after": after, "limit": limit}
    return list(await session.scalars(_LETTER_TENANTS, values))


async def _count(
    session: AsyncSession,
    scan: TextClause,
    statement: TextClause,
    list_tenants: ListTenants,
    values: Mapping[str, object],
) -> tuple[list[Row[Any]], bool]:
    """Counts rows by tenant; tells whether there are more.

    Args:
        session: of the platform.
        scan: counts the first rows in the order of their tenants.
        statement: counts up to a quota of rows of each of some tenants.
        list_tenants: returns tenants that have rows, after one, up to a number.
        values: of the parameters that both statements have.
    """
    rows = list(await session.execute(scan, {**values, "limit": ROWS + 1}))
    if sum(row.found for row in rows) <= ROWS:
        return rows, False
    budget = _Budget()
    last = rows[-1].tenant_id  # all rows of those before it have been counted
    tenants = [last]
    in_part = False
    while page := await list_tenants(session, tenants[-1], TENANTS):
        tenants += page
        if budget.spent:
            in_part = True
            break
    shares, some_have_more = await _in_shares(session, statement, tenants, values, budget)
    seen = {row.tenant_id for row in shares}
    return [row for row in rows if row.tenant_id not in seen] + shares, in_part or some_have_more


async def _in_shares(
    session: AsyncSession,
    statement: TextClause,
    tenants: Sequence[str],
    values: Mapping[str, object],
    budget: _Budget,
) -> tuple[list[Row[Any]], bool]:
    """Reads rows of each tenant, about `ROWS` in all; tells whether there are more.

    Every tenant has the same share. What some do not use, those that have more divide. The order is
    random: if the time does not last, no tenant is left out each time.
    """
    found: dict[str, list[Row[Any]]] = {}

    async def ask(asked: Sequence[str], quota: int) -> list[str]:
        more: list[str] = []
        for number, chunk in enumerate(_chunks(asked)):
            if number and budget.spent:
                return [*more, *asked[number * TENANTS :]]
            given = {**values, "tenants": list(chunk), "quota": quota + 1}
            most: Counter[str] = Counter()
            answers: dict[str, list[Row[Any]]] = {tenant: [] for tenant in chunk}
            for row in await session.execute(statement, given):
                most[row.tenant_id] += row.most
                answers[row.tenant_id].append(row)
            found.update(answers)
            more += [tenant for tenant in chunk if most[tenant] > quota]
        return more

    share = max(1, ROWS // len(tenants))
    full = await ask(random.sample(tenants, len(tenants)), share)
    used = sum(row.found for rows in found.values() for row in rows)
    unused = (ROWS - used) // len(full) if full else 0
    if unused > 0 and not budget.spent:
        full = await ask(full, share + unused)
    return [row for rows in found.values() for row in rows], bool(full)


def _chunks(tenants: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(tenants), TENANTS):
        yield tenants[start : start + TENANTS]
