"""Payloads as text, read so that one which cannot be read harms no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.payloads import READABLE, UNKNOWN
from temporal_tenancy.postgres.database_errors import ROW_ERRORS, is_of_a_row

# One character more than is read, so that a longer one is told from one that is as long. Characters
# are counted of those alone that may have too many: it takes longer than all the rest.
PAYLOAD_TEXT: Final = f"""(
    select case when octet_length(json) <= {READABLE} then json else left(json, {READABLE + 1}) end
    from (select m.payload::text as json offset 0) as written
)"""

Key = tuple[str, UUID]  # a message's tenant and id

_TEXTS: Final = text(f"""
    select m.tenant_id, m.id, {PAYLOAD_TEXT} as payload
    from unnest(cast(:tenants as text[]), cast(:ids as uuid[])) as wanted (tenant_id, id)
    join outbox_messages as m on m.tenant_id = wanted.tenant_id and m.id = wanted.id
""")


async def payload_texts(session: AsyncSession, keys: Sequence[Key]) -> Mapping[Key, str]:
    """The payloads of messages, as JSON texts; `UNKNOWN` where the database cannot make one.

    A payload of some KiB can be written so that its text would be more than the database can hold.
    What is not there is left out. `session` is the relay's, or the tenant's of the keys.
    """
    try:
        return await _texts(session, keys)
    except ROW_ERRORS as error:
        if not is_of_a_row(error):
            raise
        if len(keys) == 1:
            return {keys[0]: UNKNOWN}
    found: dict[Key, str] = {}
    for key in keys:
        try:
            found |= await _texts(session, [key])
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            found[key] = UNKNOWN
    return found


async def _texts(session: AsyncSession, keys: Sequence[Key]) -> dict[Key, str]:
    values = {"tenants": [tenant for tenant, _ in keys], "ids": [id for _, id in keys]}
    async with session.begin_nested():
        rows = await session.execute(_TEXTS, values)
        return {(row.tenant_id, row.id): row.payload for row in rows}
