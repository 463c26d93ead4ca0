"""How often a session waits for the server, and what goes in one message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg import AsyncConnection
from psycopg.pq import Trace
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.postgres._guarded_connection import GuardedConnection
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import driver_of, within
from tests.fixtures.stores import Fleet
from tests.fixtures.tables.models import DailyUsage

# In libpq's trace; a statement may be of several lines.
MESSAGE = re.compile(r"^([FB])\t\d+\t(\w+)\s*(.*?)(?=\n[FB]\t|\Z)", re.MULTILINE | re.DOTALL)
CHARACTERISTICS = text("""
    select
        current_setting('transaction_isolation'), current_setting('transaction_read_only'),
        current_setting('transaction_deferrable')
""")

commit_and_send: Final = GuardedConnection.commit_and_send


@contextmanager
def traced(driver: AsyncConnection[Any], file: Path) -> Iterator[list[list[str]]]:
    """Yields what the block sends on a connection: a list of messages for each round trip."""
    sent: list[list[str]] = []
    with file.open("wb") as log:
        driver.pgconn.trace(log.fileno())
        driver.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield sent
        driver.pgconn.untrace()
    messages: list[str] = []
    for side, kind, content in MESSAGE.findall(file.read_text()):
        if side == "F":
            messages.append(f"{kind} {content}")
        elif kind == "ReadyForQuery":
            sent.append(messages)
            messages = []


async def test_a_sessions_first_and_last_statements_need_no_round_trips_of_their_own(
    fleet: Fleet, tmp_path: Path
) -> None:
    with within(fleet.database, fleet.tenant):
        async with tenant_session() as session:
            driver = await driver_of(session)
        with traced(driver, tmp_path / "trace") as sent:
            async with tenant_session() as session:
                assert await driver_of(session) is driver
                assert (await session.scalars(select(DailyUsage.day))).all() == []
    first, read, last = sent
    assert [message.split()[0] for message in (*first, *last)] == ["Query", "Query"]
    assert first[0].startswith('Query "begin;')
    assert "app.tenant_id" in first[0]
    assert "daily_usage" in read[0]
    assert last[0].startswith('Query "commit;')
    assert "discard temp" in last[0]


async def test_the_platforms_neither(database: Database, tmp_path: Path) -> None:
    async with database.platform_session("a test") as session:
        raw = await (await session.connection()).get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, GuardedConnection)
    with traced(driver, tmp_path / "trace") as sent:
        async with database.platform_session("a test") as session:
            assert await session.scalar(text("select current_setting('lock_timeout')")) == "1s"
    assert len(sent) == 3
    with traced(driver, tmp_path / "trace") as sent:
        limit = timedelta(milliseconds=1500)
        async with database.platform_session("a test", statement_timeout=limit) as session:
            shown = await session.scalar(text("select current_setting('statement_timeout')"))
            assert shown == "1500ms"
    assert len(sent) == 3


async def test_a_commit_on_the_way_is_sent_alone(database: Database, tmp_path: Path) -> None:
    """The connection is reset when it goes back to the pool, in a message of its own."""
    with within(database, "ua"):
        async with tenant_session() as session:
            await session.execute(text("select 1"))
            driver = await driver_of(session)
            with traced(driver, tmp_path / "trace") as sent:
                await session.commit()
    began = [" ".join(messages[0].split()[:2]) for messages in sent]
    assert began == ['Query "COMMIT"', 'Query "']
    assert "discard temp" in sent[1][0]


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"])
async def test_a_transaction_has_the_characteristics_that_were_asked_for(
    database: Database, level: str
) -> None:
    options = {
        "isolation_level": level, "postgresql_readonly": True, "postgresql_deferrable": True
    }  # fmt: skip
    with within(database, "ua"):
        async with tenant_session() as session:
            await session.connection(execution_options=options)
            assert tuple((await session.execute(CHARACTERISTICS)).one()) == (
                level.lower(), "on", "on"
            )  # fmt: skip
        for _ in range(2):
            async with tenant_session() as session:
                assert tuple((await session.execute(CHARACTERISTICS)).one()) == (
                    "read committed", "off", "off"
                )  # fmt: skip
    async with database.platform_session("a test") as session:
        await session.connection(execution_options=options)
        assert (await session.execute(CHARACTERISTICS)).one()[0] == level.lower()


async def test_the_platforms_own_code_may_ask_for_autocommit(database: Database) -> None:
    async with database.platform_session("a test") as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        first = await session.scalar(text("select now()"))
        assert await session.scalar(text("select now()")) != first
    async with database.platform_session("a test") as session:
        first = await session.scalar(text("select now()"))
        assert await session.scalar(text("select now()")) == first


async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(
    database: Database, database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    """Deferred checks run at the commit."""
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            "alter table daily_usage add unique (tenant_id, events) deferrable initially deferred"
        )
    with within(database, "ua"):
        async with tenant_session() as session:
            driver = await driver_of(session)
        with pytest.raises(IntegrityError, match="daily_usage_tenant_id_events_key") as caught:
            await write_twice()
        assert "(ua, 7)" not in str(caught.value)
        async with tenant_session() as session:
            assert await driver_of(session) is driver
            assert (await session.scalars(select(DailyUsage.day))).all() == []
    assert log_lines.all("database.connection_discarded") == []


async def write_twice() -> None:
    async with tenant_session() as session:
        await session.execute(insert(DailyUsage), [row(1), row(2)])


def row(day: int) -> dict[str, Any]:
    return {
        "day": date(2013, 4, day), "events": 7, "cancelled": 0, "distance": 0, "air_time": 0
    }  # fmt: skip


async def test_what_fails_after_the_commit_does_not_fail_the_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection is reset in a message of its own then."""
    monkeypatch.setattr(GuardedConnection, "commit_and_send", with_a_mistake)
    with within(database, "ua"):
        async with tenant_session() as session:
            driver = await driver_of(session)
        with traced(driver, tmp_path / "trace") as sent:
            async with tenant_session() as session:
                session.add(DailyUsage(**row(1)))
        async with tenant_session() as session:
            assert await driver_of(session) is driver
            assert len((await session.scalars(select(DailyUsage.day))).all()) == 1
    *_, failed, reset = sent
    assert "1/0" in failed[0]
    assert "discard temp" in reset[0]


async def with_a_mistake(connection: GuardedConnection, message: str) -> None:
    await commit_and_send(connection, f"select 1; select 1/0; {message}")


async def test_the_row_of_what_was_sent_with_a_commit_is_worth_nothing_after_more(
    database_urls: DatabaseUrls,
) -> None:
    url = database_urls.tenant.replace("+psycopg", "")
    async with await GuardedConnection.connect(url) as driver:
        taken = []
        for message, after in (
            ("select 'a', null; select 'b'", ""),
            ("select 'a'; select 1/0", ""),
            ("select 'a'", "select 1"),
        ):
            await driver.execute("select 1")
            await driver.commit_and_send(message)
            if after:
                await driver.execute(after)
                await driver.rollback()
            taken.append(driver.take_row_with_commit())
            assert driver.take_row_with_commit() is None
        assert taken == [("a", ""), None, None]
        await driver.commit()  # sends nothing more
        assert driver.take_row_with_commit() is None
