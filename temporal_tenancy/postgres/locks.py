"""Turns that processes take, by rows of a table that no tenant's role reaches.

An advisory lock would be anybody's: whoever may run SQL in the database may hold it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Made before the first migration, which is such a turn itself. No later one alters it: whoever
# migrates has a row of it.
MAKE_TABLE: Final = """
    create table if not exists locks (name text not null, constraint pk_locks primary key (name))
"""
_MAKE: Final = text("insert into locks (name) values (:name) on conflict (name) do nothing")
# Not by an update: whoever would insert the name meanwhile would wait for that.
_TAKE: Final = text("select from locks where name = :name for update")
# A name that is new is this transaction's own, and no other statement sees it yet.
_TAKE_FREE: Final = text("""
    with wanted as (select name from unnest(cast(:names as text[])) as given (name) order by name),
    made as (
        insert into locks (name)
        select name from wanted
        where not exists (select from locks as there where there.name = wanted.name)
        on conflict do nothing
        returning name
    ),
    free as (
        select name from locks
        where name = any(cast(:names as text[]))
        order by name
        for update skip locked
    )
    select name from made union all select name from free
""")


async def take(session: AsyncSession, name: str) -> None:
    """Waits until `name` is free, and has it until the transaction ends."""
    await session.execute(_MAKE, {"name": name})
    await session.execute(_TAKE, {"name": name})


async def take_free(session: AsyncSession, names: Collection[str]) -> frozenset[str]:
    """Takes those of `names` that nobody has, until the transaction ends; returns which."""
    return frozenset(await session.scalars(_TAKE_FREE, {"names": list(names)}))
