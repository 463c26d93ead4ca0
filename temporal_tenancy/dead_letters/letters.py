"""Dead letters in the control plane, as the platform reads and handles them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState, PositionRow

UNSETTLED: Final = (DeadLetterState.OPEN, DeadLetterState.REPLAYED)
"""What may still turn out to have succeeded."""


@dataclass(frozen=True)
class Filter:
    """Which dead letters are meant; what is not said makes no difference."""

    tenant_id: str | None = None
    job: str | None = None
    fingerprint: str | None = None
    older_than: timedelta | None = None  # since it failed
    newer_than: timedelta | None = None  # since it failed
    status: DeadLetterState | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it would let all of them through, but for their status."""
        narrowing = (self.tenant_id, self.job, self.fingerprint, self.older_than, self.newer_than)
        return all(each is None for each in narrowing)

    def conditions(self, now: datetime) -> Sequence[ColumnElement[bool]]:
        """As SQL has it; `now` is aware."""
        row = DeadLetterRow
        found = [
            column == value
            for column, value in (
                (row.tenant_id, self.tenant_id),
                (row.job, self.job),
                (row.fingerprint, self.fingerprint),
                (row.status, None if self.status is None else self.status.value),
            )
            if value is not None
        ]
        if self.older_than is not None:
            found.append(row.failed_at < now - self.older_than)
        if self.newer_than is not None:
            found.append(row.failed_at >= now - self.newer_than)
        return found


async def latest(session: AsyncSession, where: Filter, *, limit: int) -> Sequence[DeadLetterRow]:
    """The letters that failed last, at most `limit`, the latest first.

    Where there are more, the tenants' latest are taken by turns: one that has many, or whose role
    has written a time to come, hides nobody else's.
    """
    row = DeadLetterRow
    latest_first = (row.failed_at.desc(), row.tenant_id, row.id)
    turn = func.row_number().over(partition_by=row.tenant_id, order_by=latest_first)
    turns = (
        select(row.tenant_id, row.id, turn.label("turn"), row.failed_at)
        .where(*where.conditions(datetime.now(UTC)))
        .subquery()
    )
    chosen = (
        select(turns.c.tenant_id, turns.c.id)
        .order_by(turns.c.turn, turns.c.failed_at.desc(), turns.c.tenant_id)
        .limit(limit)
        .subquery()
    )
    its = and_(row.tenant_id == chosen.c.tenant_id, row.id == chosen.c.id)
    return (await session.scalars(select(row).join(chosen, its).order_by(*latest_first))).all()


async def count(session: AsyncSession, where: Filter) -> int:
    """How many letters a filter lets through."""
    query = select(func.count()).where(*where.conditions(datetime.now(UTC)))
    return int(await session.scalar(query.select_from(DeadLetterRow)) or 0)


async def page(
    session: AsyncSession,
    where: Filter,
    *,
    after: tuple[str, UUID] | None,
    limit: int,
    now: datetime,
) -> Sequence[DeadLetterRow]:
    """Letters by tenant and in the order in which they came, `after` the last of the page before.

    `now` is the same for all pages, so that their ages are.
    """
    place = tuple_(DeadLetterRow.tenant_id, DeadLetterRow.id)
    query = select(DeadLetterRow).where(*where.conditions(now)).order_by(place).limit(limit)
    if after is not None:
        query = query.where(place > after)
    return (await session.scalars(query)).all()


async def find(
    session: AsyncSession, ids: Sequence[UUID], *, tenant_id: str | None = None
) -> Sequence[DeadLetterRow]:
    """The letters of these ids, as far as there are any, by tenant; of one tenant, or of any.

    Two tenants may have letters of one id: an earlier release let them write it.
    """
    query = (
        select(DeadLetterRow)
        .where(DeadLetterRow.id.in_(ids))
        .order_by(DeadLetterRow.tenant_id, DeadLetterRow.id)
    )
    if tenant_id is not None:
        query = query.where(DeadLetterRow.tenant_id == tenant_id)
    return (await session.scalars(query)).all()


async def unsettled(
    session: AsyncSession, *, after: tuple[str, UUID] | None, limit: int
) -> Sequence[DeadLetterRow]:
    """A page of the letters that are open or replayed, by tenant and id."""
    place = tuple_(DeadLetterRow.tenant_id, DeadLetterRow.id)
    query = select(DeadLetterRow).where(DeadLetterRow.status.in_(UNSETTLED))
    if after is not None:
        query = query.where(place > after)
    return (await session.scalars(query.order_by(place).limit(limit))).all()


async def known(
    session: AsyncSession, workflow_ids: Sequence[str]
) -> Mapping[str, tuple[str | None, datetime]]:
    """The run that each of these workflows' letters is about, and when it failed, by workflow."""
    row = DeadLetterRow
    query = select(row.workflow_id, row.run_id, row.failed_at).where(
        row.tenant_id.in_({each.split("/", 1)[0] for each in workflow_ids}),
        row.workflow_id.in_(workflow_ids),
    )
    return {id: (run_id, failed_at) for id, run_id, failed_at in await session.execute(query)}


# A run that failed again before this was written has opened the letter anew, and it stays open.
_REPLAYED: Final = text("""
    update dead_letters
       set status = case when run_id = :run_id then status else 'replayed' end,
           replays = replays + 1,
           replay_run_id = :run_id,
           handled_at = now(),
           handled_by = :by
     where tenant_id = :tenant and id = :id and replay_run_id is distinct from :run_id
    returning replays
""")


async def mark_replayed(session: AsyncSession, letter: DeadLetterRow, run_id: str, by: str) -> bool:
    """Writes that `by` has had a letter's job started again as `run_id`; once for a run."""
    values = {"tenant": letter.tenant_id, "id": letter.id, "run_id": run_id, "by": by}
    return (await session.scalar(_REPLAYED, values)) is not None


# Of several tenants at once: what one of them has locked is left, and waited for by nobody.
_FREE: Final = """
    with free as materialized (
        select tenant_id, id
          from dead_letters
         where (tenant_id, id) in (
                 select * from unnest(cast(:tenants as text[]), cast(:ids as uuid[]))
               )
           for update skip locked
    )
"""
_RESOLVE: Final = text(f"""
    {_FREE}
    update dead_letters as letter
       set status = 'resolved', handled_at = now(), handled_by = :by
      from free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status in ('open', 'replayed', 'discarded')
    returning letter.id
""")
_DISCARD: Final = text(f"""
    {_FREE}
    update dead_letters as letter
       set status = 'discarded', handled_at = now(), handled_by = :by
      from free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status = 'open'
    returning letter.tenant_id, letter.id
""")


async def resolve(session: AsyncSession, letters: Sequence[DeadLetterRow], by: str) -> int:
    """Writes that the jobs of letters have succeeded, as `by` has seen; returns how many.

    A letter that is locked is left as it is.
    """
    return len((await session.execute(_RESOLVE, _these(letters, by))).all())


async def discard(
    session: AsyncSession, letters: Sequence[DeadLetterRow], by: str
) -> Sequence[tuple[str, UUID]]:
    """Writes that `by` wants letters run no more.

    Returns tenant and id of those that were open, and not locked.
    """
    found = await session.execute(_DISCARD, _these(letters, by))
    return [(row.tenant_id, row.id) for row in found]


def _these(letters: Sequence[DeadLetterRow], by: str) -> dict[str, Any]:
    return {
        "tenants": [each.tenant_id for each in letters],
        "ids": [each.id for each in letters],
        "by": by,
    }


@dataclass(frozen=True)
class Depth:
    """What a tenant has open."""

    tenant_id: str
    letters: int
    oldest: datetime  # when it failed


async def depths(session: AsyncSession) -> Sequence[Depth]:
    """How many letters of each tenant are open, and when the oldest of them failed."""
    query = (
        select(DeadLetterRow.tenant_id, func.count(), func.min(DeadLetterRow.failed_at))
        .where(DeadLetterRow.status == DeadLetterState.OPEN)
        .group_by(DeadLetterRow.tenant_id)
    )
    return [Depth(*row) for row in await session.execute(query)]


_SETTLED_BEFORE: Final = text("""
    select tenant_id, id, message_id
    from dead_letters
    where status in ('resolved', 'discarded') and handled_at < :before
        and tenant_id <> all(cast(:but as text[]))
    order by tenant_id
    limit :limit
""")
_FORGET: Final = text(f"""
    {_FREE}
    delete from dead_letters as letter
     using free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status in ('resolved', 'discarded')
""")


@dataclass(frozen=True)
class Settled:
    """A letter that nobody waits for any more."""

    tenant_id: str
    id: UUID
    message_id: UUID | None


async def settled_before(
    session: AsyncSession, before: datetime, *, but: Collection[str] = (), limit: int
) -> Sequence[Settled]:
    """Letters that were resolved or discarded before a time (aware), by tenant.

    Those of the tenants `but` are left out.
    """
    values = {"before": before, "but": list(but), "limit": limit}
    found = await session.execute(_SETTLED_BEFORE, values)
    return [Settled(**row._mapping) for row in found]


async def forget(session: AsyncSession, letters: Sequence[Settled]) -> None:
    """Deletes letters that are settled, and not locked."""
    values = {
        "tenants": [each.tenant_id for each in letters],
        "ids": [each.id for each in letters],
    }
    await session.execute(_FORGET, values)


async def position(session: AsyncSession, name: str) -> datetime | None:
    """How far `name` has come; None: it never went."""
    row = await session.get(PositionRow, name)
    return None if row is None else row.upto


_MOVE: Final = text("""
    insert into positions (name, upto) values (:name, :upto)
    on conflict (name) do update set upto = greatest(positions.upto, excluded.upto)
""")


async def move(session: AsyncSession, name: str, upto: datetime) -> None:
    """Notes how far `name` has come (aware); it only goes on."""
    await session.execute(_MOVE, {"name": name, "upto": upto})
