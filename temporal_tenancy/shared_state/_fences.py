"""The fencing tokens of locks, which the database gives out and compares."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.raw_session import RawSession

# Above every token before it, whatever Redis has forgotten. It begins at the microseconds of the
# clock, so that it also grows past those of a row that has been deleted. An old row of the tenant
# goes with each token: whoever still holds its lock has lost it.
_TAKE: Final = library_text("""
    with old as (
        select tenant_id, name
        from tenancy.lock_fences
        where tenant_id = :tenant and taken_at < now() - interval '30 days' and name <> :name
        order by taken_at
        limit 2
        for update skip locked
    ),
    removed as (
        delete from tenancy.lock_fences as fence
        using old
        where fence.tenant_id = old.tenant_id and fence.name = old.name
    )
    insert into tenancy.lock_fences as fence (tenant_id, name, token, taken_at)
    values (
        :tenant, :name, (extract(epoch from clock_timestamp()) * 1000000)::bigint, now()
    )
    on conflict (tenant_id, name) do update
        set token = greatest(fence.token + 1, excluded.token), taken_at = excluded.taken_at
    returning token
""")
# The row stays locked to the end of the transaction: whoever takes the lock next gets its token
# only after that, so that no write under an older one follows.
_NEWEST: Final = library_text("""
    select token from tenancy.lock_fences
    where tenant_id = :tenant and name = :name
    for share
""")


async def take_token(session: AsyncSession | RawSession, name: str) -> int:
    """Returns a token for the current tenant's lock `name`; all before it count no more."""
    token = await session.scalar(_TAKE, {"tenant": current_tenant(), "name": name})
    return int(token)


async def newest_token(session: AsyncSession | RawSession, name: str) -> int | None:
    """Returns the newest token of the current tenant's lock `name`; nobody takes another one
    before the transaction ends."""
    found = await session.scalar(_NEWEST, {"tenant": current_tenant(), "name": name})
    return None if found is None else int(found)
