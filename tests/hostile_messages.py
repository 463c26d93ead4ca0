"""Messages as a tenant's role can write them past `enqueue()`: whatever the columns take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within

READY: Final = "ready"
"""What becomes of a message that is started in spite of it all."""


@dataclass(frozen=True)
class Hostile:
    """A row's columns as SQL, beside a sound message's, and the error type that it comes to."""

    comes_to: str
    columns: Mapping[str, str] = field(default_factory=dict)


def _payload(sql: str) -> Hostile:
    return Hostile("PayloadUnreadable", {"payload": sql})


_LOST: Final = {"status": "'processing'", "lease_until": "'-infinity'"}

HOSTILE: Final[Mapping[str, Hostile]] = {
    "digits": _payload("""('{"data": ' || repeat('9', 4500) || '}')::jsonb"""),
    "more-digits": _payload("""('{"data": 1e131071}')::jsonb"""),
    "decimals": _payload("""('{"data": 1e-16383}')::jsonb"""),
    "large": Hostile(READY, {"payload": """('{"data": 1e400}')::jsonb"""}),  # as an int
    "as-a-float": _payload("""('{"data": 1' || repeat('0', 400) || '.5}')::jsonb"""),
    "nested": _payload("(repeat('[', 3000) || repeat(']', 3000))::jsonb"),
    "nested-objects": _payload("""(repeat('{"a":', 101) || '1' || repeat('}', 101))::jsonb"""),
    "long": _payload("""jsonb_build_object('text', repeat('x', 300000))"""),
    "many-bytes": _payload("""jsonb_build_object('text', repeat('x', 9000000))"""),
    "no-object": Hostile("InvalidPayload", {"payload": "'7'"}),
    "null": Hostile("InvalidPayload", {"payload": "'null'"}),
    "another-tenants": Hostile("InvalidPayload", {"payload": """'{"tenant_id": "globex"}'"""}),
    "no-text": Hostile("InvalidPayload", {"payload": """'{"text": 1e308}'"""}),
    "odd": Hostile("LookupError", {"payload": """'{"text": "odd"}'"""}),
    "job": Hostile("UnknownJob", {"job": r"E'\x1b[2J' || repeat('x', 2000)"}),
    "key": Hostile("TenantMismatch", {"key": "'key-' || repeat('k', 300)"}),
    "control": Hostile("TenantMismatch", {"key": r"E'control-\x1b[2J\n'"}),
    "correlation": Hostile(READY, {"correlation_id": "repeat('c', 6291456)"}),
    "attempts": Hostile(READY, {"attempts": "2147483647"}),
    "no-attempts": Hostile(READY, {"attempts": "-2147483648"}),
    "created": Hostile(READY, {"created_at": "'infinity'"}),
    "scheduled": Hostile(READY, {"scheduled_at": "'4713-01-01 BC'"}),
    "times": Hostile(READY, {"last_attempt_at": "'-infinity'", "dequeued_at": "'294276-01-01'"}),
    "reason": Hostile(
        READY, {"status": "'failed'", "error_type": r"E'\x1b'", "error_message": "repeat('m', 999)"}
    ),
    "lost": Hostile("PayloadUnreadable", _LOST | {"payload": """('{"data": 1e5000}')::jsonb"""}),
    "lost-attempts": Hostile("RelayLost", _LOST | {"attempts": "2147483647"}),
    "lost-to": Hostile(READY, _LOST | {"workflow_id": "'globex/test.small/messages-1'"}),
    "lost-to-nobody": Hostile(READY, _LOST | {"workflow_id": "repeat('w', 3000000)"}),
}


_UNWALL: Final = """
    do $$
    declare found record;
    begin
        for found in
            select conrelid::regclass as name, conname from pg_constraint
             where contype = 'c' and conrelid::regclass::text in ('outbox_messages', 'dead_letters')
               and conname not like '%\\_status' and conname not like '%\\_priority'
        loop
            execute format('alter table %s drop constraint %I', found.name, found.conname);
        end loop;
    end $$;
    alter table outbox_messages disable trigger user;
    alter table outbox_messages enable trigger key_from_id;  -- no wall: it gives a key
    alter table dead_letters disable trigger user;
    grant insert, update on outbox_messages, dead_letters to tenancy_tenant;
"""


def take_walls_away(urls: DatabaseUrls) -> None:
    """Leaves the tables as they are where nobody has checked what tenants write into them."""
    with connect(urls.superuser) as superuser:
        superuser.execute(_UNWALL)


async def insert(database: Database, tenant: str, **columns: str) -> None:
    """Writes a message of these columns (SQL) as the tenant's role."""
    given = {"tenant_id": f"'{tenant}'", "job": "'test.note'", "payload": "'{}'", **columns}
    names, values = ", ".join(given), ", ".join(given.values())
    # A colon that stands alone would be a parameter.
    statement = re.sub(
        r"(?<!:):(?!:)", r"\\:", f"insert into outbox_messages ({names}) select {values}"
    )
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(text(statement))


async def insert_hostile(database: Database, tenant: str, names: Any = HOSTILE) -> None:
    """Writes each of the hostile messages, with its name as its key where it has no other."""
    for name in names:
        await insert(database, tenant, **{"key": f"'{name}'", **HOSTILE[name].columns})
