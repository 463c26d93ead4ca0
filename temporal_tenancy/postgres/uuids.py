"""UUIDs of version 7 (RFC 9562), whose order is that of their making, on every supported server."""

from __future__ import annotations

from typing import Final

from alembic import op
from sqlalchemy import TextClause, text

from temporal_tenancy.postgres.installation import current_installation

BUILT_IN_SINCE: Final = (18,)

# As PostgreSQL 18's own: 48 bits of milliseconds, 12 of the fraction of the millisecond, and 62
# random ones. 28672 is the version in its place, 0x7000.
UUIDV7: Final = """
    select pg_catalog.encode(
        pg_catalog.substr(pg_catalog.int8send(micros / 1000), 3)
            || pg_catalog.int2send((28672 + micros % 1000 * 4096 / 1000)::pg_catalog.int2)
            || pg_catalog.substr(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), 9),
        'hex'
    )::pg_catalog.uuid
    from (
        select (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8
            as micros
    ) as clock
"""
"""The body of the function, where the server has none."""


def make_uuidv7() -> None:
    """Creates the function `uuidv7()` where the server lacks it; for the library's migrations."""
    if not _built_in():
        roles = ", ".join(map(op.get_bind().dialect.identifier_preparer.quote, _roles()))
        op.execute(f"""
            create or replace function uuidv7() returns uuid language sql volatile parallel safe
            as $${UUIDV7}$$
        """)
        op.execute(f"grant execute on function uuidv7() to {roles}")


def new_uuid() -> TextClause:
    """Returns the server default of a column of UUIDs in their order; for migrations."""
    if _built_in():
        return text("uuidv7()")
    schema = op.get_bind().dialect.identifier_preparer.quote(current_installation().schema)
    return text(f"{schema}.uuidv7()")


def _built_in() -> bool:
    version = op.get_bind().dialect.server_version_info
    assert version is not None  # known since the first connection
    return version >= BUILT_IN_SINCE


def _roles() -> list[str]:
    return list(current_installation().roles)
