"""What the gauges of the outbox cost: the same few statements, however much waits for how many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.metrics import _outbox_gauges
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database

ROWS = 100
ALWAYS = 6  # messages, letters, processing, decisions, those in flight, records
# Beside these: a page of tenants, and a chunk of them; of messages, and of letters.
IN_PART = 4

_TENANTS = """
    insert into tenancy.tenants (id, name, plan_id, status)
    select 't' || n, 't', 'enterprise', case when n % 4 = 3 then 'suspended' else 'active' end
      from generate_series(0, {tenants} - 1) as n
"""
_MESSAGES = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload, priority, scheduled_at)
    select 't' || n % {tenants}, 'test.note', 'k' || n, '{{}}', 1 + n % 5,
           now() + case when n % 5 = 0 then interval '1 day' else interval '-1 minute' end
      from generate_series(1, {rows}) as n
"""
_LETTERS = """
    insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
        fingerprint, attempts, failed_at)
    select 't' || n % {tenants}, 'test.note', 'relay', 't' || n % {tenants} || '/test.note/' || n,
           'E', '', '0123456789abcdef', 1, now() - interval '1 day'
      from generate_series(1, {rows}) as n
"""


def fill(urls: DatabaseUrls, tenants: int, rows: int) -> None:
    """Lets this many messages wait, and as many letters be open, of so many tenants."""
    with connect(urls.superuser) as superuser:
        superuser.execute("set session_replication_role = replica")  # a fill without triggers
        for statement in (_TENANTS, _MESSAGES, _LETTERS):
            superuser.execute(statement.format(tenants=tenants, rows=rows).encode())


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Notes the statements of the block that read tables, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def note(connection: object, cursor: object, sql: str, parameters: object, *_: object) -> None:
        if "from" in sql.lower():
            sent.append((sql, parameters))

    engine = database.platform_engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("tenants", [1, 10, 100])
async def test_as_many_rows_as_are_counted_are_counted_in_full_by_one_scan(
    relay_database: Database,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
    tenants: int,
) -> None:
    monkeypatch.setattr(_outbox_gauges, "ROWS", ROWS)
    fill(database_urls, tenants, ROWS)
    with statements(relay_database) as sent:
        found = await _outbox_gauges.of_outbox(
            relay_database, ControlPlaneDirectory(relay_database)
        )
    assert found[of.IN_PART] == {("outbox",): 0}
    reasons = {reason: count for (reason,), count in found[of.MESSAGES].items()}
    assert sum(reasons.values()) == ROWS
    assert reasons["later"] == ROWS / 5
    assert (reasons["suspended"] > 0) == (tenants > 3)
    assert sum(found[of.LETTERS].values()) == ROWS
    assert found[of.OLDEST_LETTER][()] > 80_000
    assert len(sent) <= ALWAYS


async def test_when_the_time_is_used_up_what_was_counted_is_told_as_a_part(
    relay_database: Database, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outbox_gauges, "ROWS", ROWS)
    monkeypatch.setattr(_outbox_gauges, "TENANTS", 2)
    fill(database_urls, 200, 4 * ROWS)
    directory = ControlPlaneDirectory(relay_database)
    monkeypatch.setattr(_outbox_gauges, "SECONDS", 0)
    with statements(relay_database) as sent:
        found = await _outbox_gauges.of_outbox(relay_database, directory)
    assert len(sent) <= ALWAYS + IN_PART
    assert found[of.IN_PART] == {("outbox",): 1}
    assert ROWS <= sum(found[of.MESSAGES].values()) < 2 * ROWS
    assert ROWS <= sum(found[of.LETTERS].values()) < 2 * ROWS
    monkeypatch.setattr(_outbox_gauges, "SECONDS", 60)
    found = await _outbox_gauges.of_outbox(relay_database, directory)
    assert 0.7 * 4 * ROWS <= sum(found[of.MESSAGES].values()) <= 4 * ROWS


async def test_the_scans_read_no_more_than_they_count(
    relay_database: Database, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outbox_gauges, "ROWS", ROWS)
    fill(database_urls, 10, 20 * ROWS)
    plans: dict[str, str] = {}
    with statements(relay_database) as sent:
        await _outbox_gauges.of_outbox(relay_database, ControlPlaneDirectory(relay_database))
    async with relay_database.platform_session("look at plans in a test") as session:
        connection = await session.connection()
        for sql, parameters in sent:
            if "order by tenant_id" in sql and "recursive" not in sql:
                table = "messages" if "outbox_messages" in sql else "letters"
                rows = await connection.exec_driver_sql(f"explain (analyze) {sql}", parameters)
                plans[table] = "\n".join(line for (line,) in rows)
    for table, index in (("messages", "ix_outbox_messages_waiting"), ("letters", "_open")):
        [scan] = [line for line in plans[table].splitlines() if index in line]
        assert f"rows={ROWS + 1}" in scan.split("actual")[1], plans[table]
