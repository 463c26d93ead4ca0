"""Queries on the control plane's dead letters, for the platform role.

Every `session` here is a platform session; "by tenant" means ordered by tenant id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState, PositionRow
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.postgres.library_text import library_text

UNSETTLED: Final = (DeadLetterState.OPEN, DeadLetterState.REPLAYED)
"""States of a letter whose job may still turn out to have succeeded."""


@dataclass(frozen=True)
class Filter:
    """Selects dead letters; a field that is None matches every letter."""

    tenant_id: str | None = None
    job: str | None = None
    fingerprint: str | None = None
    older_than: timedelta | None = None  # since it failed
    newer_than: timedelta | None = None  # since it failed
    status: DeadLetterState | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no field other than `status` is set."""
        fields = (self.tenant_id, self.job, self.fingerprint, self.older_than, self.newer_than)
        return all(field is None for field in fields)

    def conditions(self, now: datetime) -> Sequence[ColumnElement[bool]]:
        """Returns the SQL conditions; ages are measured from `now` (aware)."""
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
    """Returns at most `limit` letters, the latest failure first.

    If more match, tenants take turns, each with its latest letters. So a tenant that has many
    letters, or whose role wrote a time in the future, does not hide those of others.
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
    """Returns how many letters match a filter."""
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
    """Returns a page of matching letters, by tenant and then in the order of recording.

    Args:
        session: of the platform.
        where: which letters.
        after: tenant id and id of the previous page's last letter; None for the first page.
        limit: letters in the page.
        now: aware; pass the same for all pages, so that ages do not shift between them.
    """
    place = tuple_(DeadLetterRow.tenant_id, DeadLetterRow.id)
    query = select(DeadLetterRow).where(*where.conditions(now)).order_by(place).limit(limit)
    if after is not None:
        query = query.where(place > after)
    return (await session.scalars(query)).all()


async def find(
    session: AsyncSession, ids: Sequence[UUID], *, tenant_id: str | None = None
) -> Sequence[DeadLetterRow]:
    """Returns the letters with these ids, by tenant; unknown ids are ignored.

    With `tenant_id`, only letters of that tenant. Two tenants may have letters with the same id,
    because an earlier release let tenants choose it.
    """
    query = (
        select(DeadLetterRow)
        .where(DeadLetterRow.id.in_(ids))
        .order_by(DeadLetterRow.tenant_id, DeadLetterRow.id)
    )
    if tenant_id is not None:
        query = query.where(DeadLetterRow.tenant_id == tenant_id)
    return (await session.scalars(query)).all()


async def of_workflow(
    session: AsyncSession, workflow_id: WorkflowId, *, message_id: UUID | None = None
) -> DeadLetterRow | None:
    """Returns the letter of a tenant's workflow id, or None.

    With the id of a message, the letter that keeps its input in that message comes first: its
    workflow id is another one if an earlier request's run has the key.
    """
    row = DeadLetterRow
    query = select(row).where(
        row.tenant_id == workflow_id.owner,
        or_(row.workflow_id == str(workflow_id), row.message_id == message_id),
    )
    found = (await session.scalars(query)).all()
    return next(iter(sorted(found, key=lambda letter: letter.message_id != message_id)), None)


async def unsettled(
    session: AsyncSession, *, after: tuple[str, UUID] | None, limit: int
) -> Sequence[DeadLetterRow]:
    """Returns a page of the open and replayed letters, by tenant and id.

    `after` is the tenant id and id of the previous page's last letter; None for the first page.
    """
    place = tuple_(DeadLetterRow.tenant_id, DeadLetterRow.id)
    query = select(DeadLetterRow).where(DeadLetterRow.status.in_(UNSETTLED))
    if after is not None:
        query = query.where(place > after)
    return (await session.scalars(query.order_by(place).limit(limit))).all()


async def known(
    session: AsyncSession, workflow_ids: Sequence[str]
) -> Mapping[str, tuple[str | None, datetime]]:
    """Returns the run id and the failure time (aware) of each workflow's letter, by workflow id.

    A workflow without a letter is left out; the run id is None if there was no run.
    """
    row = DeadLetterRow
    query = select(row.workflow_id, row.run_id, row.failed_at).where(
        row.tenant_id.in_({workflow_id.split("/", 1)[0] for workflow_id in workflow_ids}),
        row.workflow_id.in_(workflow_ids),
    )
    return {id: (run_id, failed_at) for id, run_id, failed_at in await session.execute(query)}


# If the new run has already failed, it has reopened the letter, which then stays open.
_REPLAYED: Final = library_text("""
    update tenancy.dead_letters
       set status = case when run_id = :run_id then status else 'replayed' end,
           replays = replays + 1,
           replay_run_id = :run_id,
           handled_at = now(),
           handled_by = :by
     where tenant_id = :tenant and id = :id and replay_run_id is distinct from :run_id
    returning replays
""")


async def mark_replayed(session: AsyncSession, letter: DeadLetterRow, run_id: str, by: str) -> bool:
    """Records that `by` had a letter's job started again as run `run_id`.

    Returns:
        False if this was already recorded for the run, else True.

    Raises:
        LockHeld: another transaction has locked the letter.
    """
    values = {"tenant": letter.tenant_id, "id": letter.id, "run_id": run_id, "by": by}
    return (await session.scalar(_REPLAYED, values)) is not None


# The letters may belong to several tenants. A row that a tenant has locked is skipped, so that
# nobody waits for it.
_FREE: Final = """
    with free as materialized (
        select tenant_id, id
          from tenancy.dead_letters
         where (tenant_id, id) in (
                 select * from unnest(cast(:tenants as text[]), cast(:ids as uuid[]))
               )
           for update skip locked
    )
"""
_RESOLVE: Final = library_text(f"""
    {_FREE}
    update tenancy.dead_letters as letter
       set status = 'resolved', handled_at = now(), handled_by = :by
      from free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status in ('open', 'replayed', 'discarded')
    returning letter.id
""")
_DISCARD: Final = library_text(f"""
    {_FREE}
    update tenancy.dead_letters as letter
       set status = 'discarded', handled_at = now(), handled_by = :by
      from free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status = 'open'
    returning letter.tenant_id, letter.id
""")


async def resolve(session: AsyncSession, letters: Sequence[DeadLetterRow], by: str) -> int:
    """Marks letters as resolved by `by`, because their jobs have succeeded; returns the count.

    Letters that are already resolved, or that another transaction has locked, are skipped.
    """
    return len((await session.execute(_RESOLVE, _these(letters, by))).all())


async def discard(
    session: AsyncSession, letters: Sequence[DeadLetterRow], by: str
) -> Sequence[tuple[str, UUID]]:
    """Marks open letters as discarded by `by`, so that they are not replayed.

    Returns:
        Tenant id and id of the discarded letters. Those that are not open, or that another
        transaction has locked, are skipped.
    """
    found = await session.execute(_DISCARD, _these(letters, by))
    return [(row.tenant_id, row.id) for row in found]


def _these(letters: Sequence[DeadLetterRow], by: str) -> dict[str, Any]:
    return {
        "tenants": [letter.tenant_id for letter in letters],
        "ids": [letter.id for letter in letters],
        "by": by,
    }


@dataclass(frozen=True)
class Depth:
    """The open letters of one tenant."""

    tenant_id: str
    letters: int
    oldest: datetime  # aware; when the oldest failed


async def depths(session: AsyncSession) -> Sequence[Depth]:
    """Returns the depth of each tenant that has open letters, in no particular order."""
    query = (
        select(DeadLetterRow.tenant_id, func.count(), func.min(DeadLetterRow.failed_at))
        .where(DeadLetterRow.status == DeadLetterState.OPEN)
        .group_by(DeadLetterRow.tenant_id)
    )
    return [Depth(*row) for row in await session.execute(query)]


_SETTLED_BEFORE: Final = library_text("""
    select tenant_id, id, message_id
    from tenancy.dead_letters
    where status in ('resolved', 'discarded') and handled_at < :before
        and tenant_id <> all(cast(:but as text[]))
    order by tenant_id
    limit :limit
""")
_FORGET: Final = library_text(f"""
    {_FREE}
    delete from tenancy.dead_letters as letter
     using free
     where letter.tenant_id = free.tenant_id
       and letter.id = free.id
       and letter.status in ('resolved', 'discarded')
""")


@dataclass(frozen=True)
class Settled:
    """A letter that is resolved or discarded."""

    tenant_id: str
    id: UUID
    message_id: UUID | None  # of the outbox message that stores its input


async def settled_before(
    session: AsyncSession, before: datetime, *, but: Collection[str] = (), limit: int
) -> Sequence[Settled]:
    """Returns at most `limit` letters resolved or discarded before a time (aware), by tenant.

    Letters of the tenants in `but` are left out.
    """
    values = {"before": before, "but": list(but), "limit": limit}
    found = await session.execute(_SETTLED_BEFORE, values)
    return [Settled(**row._mapping) for row in found]


async def forget(session: AsyncSession, letters: Sequence[Settled]) -> None:
    """Deletes settled letters; those that another transaction has locked are skipped."""
    values = {
        "tenants": [letter.tenant_id for letter in letters],
        "ids": [letter.id for letter in letters],
    }
    await session.execute(_FORGET, values)


async def position(session: AsyncSession, name: str) -> datetime | None:
    """Returns the time (aware) up to which `name` has progressed; None if it never ran."""
    row = await session.get(PositionRow, name)
    return None if row is None else row.upto


_MOVE: Final = library_text("""
    insert into tenancy.positions (name, upto) values (:name, :upto)
    on conflict (name) do update set upto = greatest(positions.upto, excluded.upto)
""")


async def move(session: AsyncSession, name: str, upto: datetime) -> None:
    """Records that `name` has progressed up to a time (aware); a position never moves back."""
    await session.execute(_MOVE, {"name": name, "upto": upto})
