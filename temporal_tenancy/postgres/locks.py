"""Named locks between processes, as locked rows of a table that the tenant role cannot access.

Advisory locks would not do: every role that can run SQL in the database can take them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.postgres.library_text import library_text

# Created before the first migration, since migrating takes such a lock itself. No later migration
# may alter the table, since each runs while a row of it is locked.
MAKE_TABLE: Final = """
    create table if not exists locks (name text not null, constraint pk_locks primary key (name))
"""
_MAKE: Final = library_text(
    "insert into tenancy.locks (name) values (:name) on conflict (name) do nothing"
)
# Not an update, which would block transactions that insert the same name.
_TAKE: Final = library_text("select from tenancy.locks where name = :name for update")
# A new name needs no second lock: no other transaction can see its row yet.
_TAKE_FREE: Final = library_text("""
    with wanted as (select name from unnest(cast(:names as text[])) as names (name) order by name),
    made as (
        insert into tenancy.locks (name)
        select name from wanted
        where not exists (select from tenancy.locks as existing where existing.name = wanted.name)
        on conflict do nothing
        returning name
    ),
    free as (
        select name from tenancy.locks
        where name = any(cast(:names as text[]))
        order by name
        for update skip locked
    )
    select name from made union all select name from free
""")


async def take(session: AsyncSession, name: str) -> None:
    """Waits for the lock `name`, and holds it until the transaction ends."""
    await session.execute(_MAKE, {"name": name})
    await session.execute(_TAKE, {"name": name})


async def take_free(session: AsyncSession, names: Collection[str]) -> frozenset[str]:
    """Takes the free locks among `names` without waiting; returns those taken.

    They are held until the transaction ends.
    """
    return frozenset(await session.scalars(_TAKE_FREE, {"names": list(names)}))
