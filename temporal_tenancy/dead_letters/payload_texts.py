"""Reads payloads as text, so that an unreadable one does not affect the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.payloads import READABLE, UNKNOWN
from temporal_tenancy.postgres.database_errors import ROW_ERRORS, is_of_a_row
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.raw_session import RawSession

# One character over the limit, to distinguish a text over the limit from one at the limit.
# Counting characters costs more than everything else, so only texts with too many bytes are cut.
PAYLOAD_TEXT: Final = f"""(
    select case when octet_length(json) <= {READABLE} then json else left(json, {READABLE + 1}) end
    from (select m.payload::text as json offset 0) as written
)"""

Key = tuple[str, UUID]  # a message's tenant and id

# One descent of the index for each message, whatever the planner knows of the tenant. Without the
# OFFSET it may take a tenant that has come since the last ANALYZE for one without rows, and read
# all of them for each message: five million rows for a hundred messages of 55,000.
_TEXTS: Final = library_text(f"""
    select found.tenant_id, found.id, found.payload
    from unnest(cast(:tenants as text[]), cast(:ids as uuid[])) as wanted (tenant_id, id)
    cross join lateral (
        select m.tenant_id, m.id, {PAYLOAD_TEXT} as payload
        from tenancy.outbox_messages as m
        where m.tenant_id = wanted.tenant_id and m.id = wanted.id
        offset 0
    ) as found
""")


async def payload_texts(
    session: AsyncSession | RawSession, keys: Sequence[Key]
) -> Mapping[Key, str]:
    """Returns the payloads of messages as JSON text, by key.

    Args:
        session: of the relay, or of the tenant that all keys belong to.
        keys: tenant id and message id of each message.

    Returns:
        At most `READABLE` + 1 characters for each message; `UNKNOWN` if the database cannot
        convert the payload to text, because a few KiB can expand to more than a text can hold.
        Missing messages are left out.
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


async def _texts(session: AsyncSession | RawSession, keys: Sequence[Key]) -> dict[Key, str]:
    values = {"tenants": [tenant for tenant, _ in keys], "ids": [id for _, id in keys]}
    async with session.begin_nested():
        rows = await session.execute(_TEXTS, values)
        return {(row.tenant_id, row.id): row.payload for row in rows}
