"""A doctor's probes in the outbox: written, looked at, and deleted, as the tenant role.

The transaction's owner is the reserved `platform`, so row-level security shows no tenant's row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.control_plane.admission import CHANNEL
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.outbox.probe.workflow import NAME, ProbeInput
from temporal_tenancy.outbox.relay.connections import APPLICATION_NAME
from temporal_tenancy.outbox.tables import MessageStatus
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden

STALE: Final = "10 minutes"  # after it a probe is what a killed doctor has left

# Tenants can lock the table, and a doctor must not wait for that.
_AS_PLATFORM: Final = """
    select set_config('app.tenant_id', %s, true), set_config('lock_timeout', '1s', true),
        set_config('statement_timeout', '5s', true)
"""
_FORGET: Final = sql.SQL("""
    delete from {table} where tenant_id = %s and created_at < now() - cast(%s as interval)
""")
_WRITE: Final = sql.SQL("""
    insert into {table} (tenant_id, job, key, payload, priority)
    values (%s, %s, %s, cast(%s as jsonb), %s)
""")
_STATES: Final = sql.SQL("""
    select key, status, error_message from {table} where tenant_id = %s and key = any(%s)
""")
_REMOVE: Final = sql.SQL("""
    delete from {table} where tenant_id = %s and key = any(%s) returning key, status
""")
_FORGET_LETTERS: Final = library_text("""
    delete from tenancy.dead_letters where tenant_id = :owner and job = :job
""")
_RELAYS: Final = """
    select count(distinct pid) from pg_stat_activity
    where datname = current_database() and starts_with(application_name, %s)
"""


@dataclass(frozen=True)
class ProbeMessage:
    """How far a relay has come with a probe's message."""

    status: MessageStatus
    error: str | None  # of the last attempt to start it


async def forget_letters(database: Database) -> None:
    """Deletes the dead letters of probes, which only a relay of an earlier release records."""
    async with database.platform_session("forget the letters of probes") as session:
        await session.execute(_FORGET_LETTERS, {"owner": PLATFORM, "job": NAME})


class ProbeMessages:
    """The messages of one doctor's probes."""

    def __init__(self, url: str, installation: Installation) -> None:
        """
        Args:
            url: the database's, as the tenant role.
            installation: where the library's tables are.
        """
        url = hidden(url)
        self._url = url
        self._installation = installation

    def write(self, probes: Mapping[str, ProbeInput]) -> None:
        """Writes a message for each probe, by key, and wakes the relays.

        Deletes what earlier doctors have left. Raises `DatabaseUnreachable`, `ConfigurationError`
        or `psycopg.Error`.
        """
        with self._transaction() as (connection, table):
            connection.execute(_FORGET.format(table=table), [PLATFORM, STALE])
            for key, probe in probes.items():
                payload = json.dumps(probe.model_dump(mode="json"))
                values = [PLATFORM, NAME, key, payload, JobPriority.URGENT.value]
                connection.execute(_WRITE.format(table=table), values)
            connection.execute("select pg_notify(%s, '')", [CHANNEL])

    def states(self, keys: Sequence[str]) -> dict[str, ProbeMessage]:
        """Returns the messages with these keys; raises as `write`."""
        with self._transaction() as (connection, table):
            rows = connection.execute(_STATES.format(table=table), [PLATFORM, list(keys)])
            return {key: ProbeMessage(MessageStatus(status), error) for key, status, error in rows}

    def remove(self, keys: Sequence[str]) -> dict[str, MessageStatus]:
        """Deletes the messages with these keys; returns the states that they had, by key.

        Raises as `write`.
        """
        with self._transaction() as (connection, table):
            rows = connection.execute(_REMOVE.format(table=table), [PLATFORM, list(keys)])
            return {key: MessageStatus(status) for key, status in rows}

    def relays(self) -> int:
        """Returns how many connections relays have to the database; raises as `write`."""
        with connect(self._url) as connection:
            row = connection.execute(_RELAYS, [APPLICATION_NAME]).fetchone()
            assert row is not None
            return int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[tuple[psycopg.Connection[Any], sql.Identifier]]:
        with connect(self._url) as connection:
            schema = schema_in_use(connection, self._installation.schema)
            with connection.transaction():
                connection.execute(_AS_PLATFORM, [PLATFORM])
                yield connection, sql.Identifier(schema, "outbox_messages")
