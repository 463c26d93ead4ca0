"""Sessions: their tenant, when they commit, and what their errors say."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import (
    BinaryExpression,
    Enum,
    Executable,
    event,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import workflow

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.errors import (
    ConfigurationError,
    ScopeMissing,
    StatementRefused,
    TenantMismatch,
)
from temporal_tenancy.core.scope import PlatformScope, TenantScope, current_scope, enter
from temporal_tenancy.postgres._guarded_connection import TenantConnection
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import (
    Database,
    current_database,
    platform_session,
    tenant_session,
    use_database,
)
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import driver_of, send_unchecked, within
from tests.fixtures.tables.models import DailyUsage, Invoice, InvoiceLine

DAY = date(2013, 4, 1)
POOL = "temporal_tenancy.postgres._shared_pool"


def usage(day: date = DAY, **values: object) -> DailyUsage:
    return DailyUsage(
        **{"day": day, "events": 1, "cancelled": 0, "distance": 0, "air_time": 0} | values
    )


async def test_what_sqlalchemy_says_of_a_pool_is_no_event_of_the_library(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert await days_of(database, "acme") == []
        await database.dispose()
    assert [each.getMessage() for each in caplog.records if each.name.startswith(POOL)] == []


async def days_of(database: Database, tenant: str) -> list[date]:
    with within(database, tenant):
        async with tenant_session() as session:
            return list(await session.scalars(select(DailyUsage.day).order_by(DailyUsage.day)))


# Scope


async def as_another(tenant: str, doing: Awaitable[Any]) -> None:
    """Runs in code of another tenant that has got hold of the object."""

    async def do() -> None:
        with enter(TenantScope(tenant)):
            await doing

    await asyncio.create_task(do(), context=Context())


async def test_without_a_tenant_nothing_is_sent(database: Database) -> None:
    with use_database(database), pytest.raises(ScopeMissing):
        async with tenant_session():
            pass
    assert database.tenant_engine.pool.checkedin() == 0  # type: ignore[attr-defined]


async def test_a_platform_scope_is_no_tenant(database: Database) -> None:
    with use_database(database), enter(PlatformScope("test")), pytest.raises(ScopeMissing):
        async with tenant_session():
            pass


async def test_tenant_code_cannot_go_to_the_platform_quietly(database: Database) -> None:
    with within(database, "ua"), pytest.raises(ScopeMissing, match="platform activity"):
        async with platform_session("test"):
            pass


async def test_a_platform_session_runs_its_block_as_the_platform(database: Database) -> None:
    with use_database(database):
        async with platform_session("count plans") as session:
            assert current_scope() == PlatformScope("count plans")
            assert await session.scalar(text("select count(*) from tenancy.plans")) == 3
    assert current_scope() is None


async def test_workflow_code_may_not_use_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Deliberate: this code stands for a workflow's, so the check works without a worker.
    monkeypatch.setattr(workflow, "in_workflow", lambda: True)
    with within(database, "ua"), pytest.raises(ScopeMissing, match="in an activity"):
        async with tenant_session():
            pass
    with use_database(database), pytest.raises(ScopeMissing, match="in an activity"):
        async with platform_session("test"):
            pass


async def test_a_session_does_not_follow_the_code_into_another_tenant(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await session.execute(text("select 1"))
            with pytest.raises(TenantMismatch, match=r'"ua".*"dl"'):
                await as_another("dl", session.execute(text("select 1")))


async def test_an_engine_used_directly_is_refused(database: Database) -> None:
    with within(database, "ua"):
        async with database.tenant_engine.connect() as connection:
            with pytest.raises(ScopeMissing, match="tenant_session"):
                await connection.execute(text("select 1"))
    async with database.platform_engine.connect() as connection:
        with pytest.raises(ScopeMissing, match="platform_session"):
            await connection.execute(text("select 1"))


async def test_autocommit_is_refused(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            with pytest.raises(ScopeMissing, match="AUTOCOMMIT"):
                await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})


@pytest.mark.parametrize(
    "statement",
    [
        "commit",
        " COMMIT AND CHAIN",
        "rollback",
        "begin",
        "start transaction",
        "end",
        "abort",
        "prepare transaction 'x'",
    ],
)
async def test_a_transaction_is_not_begun_or_ended_in_sql(
    database: Database, statement: str
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            with pytest.raises(StatementRefused, match=r"commit\(\) and rollback\(\)"):
                await session.execute(text(statement))


async def test_the_drivers_own_cursors_refuse_it_too(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            driver = await driver_of(session)
            cursor = driver.cursor()
            with pytest.raises(StatementRefused):
                await driver.execute("/**/ commit and chain")
            with pytest.raises(StatementRefused):
                await cursor.execute(b"commit")
            with pytest.raises(StatementRefused):
                await cursor.execute(sql.SQL("{}").format(sql.SQL("commit")))
            with pytest.raises(StatementRefused):
                await cursor.executemany("lock contacts", [(), ()])
            with pytest.raises(StatementRefused):
                await anext(cursor.stream("select set_config('app.tenant_id', 'dl', true)"))
            async with driver.cursor("named") as named:
                with pytest.raises(StatementRefused):
                    await named.execute("select 1; commit")
            with pytest.raises(StatementRefused):
                await cursor.copy("copy contacts to program 'cat'").__aenter__()
            who = text("select current_setting('app.tenant_id')")
            assert await session.scalar(who) == "ua"


async def test_a_transaction_ended_behind_sql_takes_its_session_with_it(
    database: Database,
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await (await driver_of(session)).commit()
            with pytest.raises(ScopeMissing, match="rather than SQL"):
                await session.execute(text("select 1"))


async def test_a_session_that_was_refused_its_stamp_goes_on_refusing(database: Database) -> None:
    everything = text("select count(*) from daily_usage")
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(usage())
        async with tenant_session() as session:
            with pytest.raises(TenantMismatch):
                await as_another("dl", session.execute(everything))
            with pytest.raises(ScopeMissing):
                await session.execute(everything)
        async with tenant_session() as session:
            assert await session.scalar(everything) == 1


# Transactions


async def test_a_block_commits_at_its_end(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(usage())
    assert await days_of(database, "ua") == [DAY]


async def test_a_block_that_fails_rolls_back(database: Database) -> None:
    async def fail() -> None:
        async with tenant_session() as session:
            session.add(usage())
            await session.flush()
            raise RuntimeError

    with within(database, "ua"), pytest.raises(RuntimeError):
        await fail()
    assert await days_of(database, "ua") == []


async def test_a_block_may_commit_on_the_way_and_go_on(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            for day in (1, 2, 3):
                session.add(usage(date(2013, 4, day)))
                await session.commit()
    assert len(await days_of(database, "ua")) == 3


async def test_the_tenant_holds_inside_and_after_savepoints(database: Database) -> None:
    setting = select(func.current_setting("app.tenant_id"))
    with within(database, "ua"):
        async with tenant_session() as session:
            async with session.begin_nested():
                assert await session.scalar(setting) == "ua"
            savepoint = await session.begin_nested()
            await savepoint.rollback()
            assert await session.scalar(setting) == "ua"


# The ORM's part


async def test_a_row_without_a_tenant_gets_the_sessions(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            row = usage()
            session.add(row)
            await session.flush()
            assert row.tenant_id == "ua"


@pytest.mark.parametrize("many", [False, True])
async def test_a_bulk_insert_is_stamped(database: Database, many: bool) -> None:
    values = [
        {"day": date(2013, 4, day), "events": 1, "cancelled": 0, "distance": 0, "air_time": 0}
        for day in (1, 2)
    ]
    with within(database, "ua"):
        async with tenant_session() as session:
            if many:
                await session.execute(insert(DailyUsage), values)
            else:
                await session.execute(insert(DailyUsage).values(values))
    assert len(await days_of(database, "ua")) == 2


async def test_another_tenants_row_is_refused(database: Database) -> None:
    values: dict[str, object] = {
        "day": DAY,
        "events": 1,
        "cancelled": 0,
        "distance": 0,
        "air_time": 0,
    }
    foreign = values | {"tenant_id": "dl"}
    upsert = postgresql.insert(DailyUsage).values(values)
    moving = upsert.on_conflict_do_update(
        index_elements=["tenant_id", "day"], set_={"tenant_id": "dl"}
    )
    attempts: list[tuple[Executable, list[dict[str, object]] | None]] = [
        (insert(DailyUsage), [values, foreign]),
        (insert(DailyUsage).values(foreign), None),
        (update(DailyUsage).values(tenant_id="dl"), None),
        (moving, None),
        (text("insert into daily_usage values ('dl', '2013-04-02', 1, 0, 0, 0)"), None),
    ]

    async def add(row: DailyUsage) -> None:
        async with tenant_session() as session:
            session.add(row)

    async def execute(statement: Executable, parameters: list[dict[str, object]] | None) -> None:
        async with tenant_session() as session:
            await session.execute(statement, parameters)

    with within(database, "ua"):
        await add(usage())
        with pytest.raises(TenantMismatch):
            await add(usage(tenant_id="dl"))
        for statement, parameters in attempts:
            with pytest.raises(TenantMismatch):
                await execute(statement, parameters)
    assert await days_of(database, "dl") == []
    assert await days_of(database, "ua") == [DAY]


async def test_moving_a_row_to_another_tenant_is_refused(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(usage())
        async with tenant_session() as session:
            row = await session.get_one(DailyUsage, ("ua", DAY))
            row.tenant_id = "dl"
            with pytest.raises(TenantMismatch, match="Leave tenant_id out"):
                await session.flush()
            await session.rollback()


async def test_queries_of_models_name_the_tenant_themselves(database: Database) -> None:
    log = logging.getLogger("sqlalchemy.engine.Engine")
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        await days_of(database, "ua")
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert any("daily_usage.tenant_id = " in record for record in records)


@pytest.mark.parametrize(
    "statement",
    [
        select(DailyUsage).where(DailyUsage.day == DAY),
        update(DailyUsage).where(DailyUsage.day == DAY).values(events=1),
    ],
    ids=["select", "update"],
)
async def test_a_statement_that_is_compiled_builds_nothing_for_its_tenant(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: Executable
) -> None:
    built: list[object] = []
    real = BinaryExpression.__init__

    def count(self: BinaryExpression[Any], *given: Any, **more: Any) -> None:
        built.append(self)
        real(self, *given, **more)

    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(statement)
    with within(database, "globex"):
        async with tenant_session() as session:
            monkeypatch.setattr(BinaryExpression, "__init__", count)
            await session.execute(statement)
    assert built == []


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
async def test_objects_in_a_session_follow_an_update(database: Database, is_new: bool) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            row = usage(events=1)
            session.add(row)
            if not is_new:
                await session.flush()
            await session.execute(update(DailyUsage).values(events=7))
            assert row.events == 7


async def test_lines_follow_their_invoices_tenant(database: Database) -> None:
    invoice = Invoice(period="2013-04", lines=[InvoiceLine(rate="r", amount_cents=1)])
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(invoice)
        async with tenant_session() as session:
            assert (await session.scalars(select(InvoiceLine))).one().tenant_id == "ua"


async def test_each_session_loads_rows_anew(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(usage(events=7))
    with within(database, "dl"):
        async with tenant_session() as session:
            assert await session.get(DailyUsage, ("ua", DAY)) is None
            assert await session.get(DailyUsage, ("dl", DAY)) is None


# The pool


@pytest.mark.parametrize(
    ("statement", "left_behind"),
    [
        ("set app.tenant_id = 'dl'", "tenant"),
        ("select set_config('app.tenant_id', 'dl', false)", "tenant"),
    ],
)
async def test_a_connection_that_keeps_a_tenant_is_thrown_away(
    database: Database, log_lines: LogLines, statement: str, left_behind: str
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            first = await session.scalar(text("select pg_backend_pid()"))
            await send_unchecked(session, statement)
        async with tenant_session() as session:
            assert await session.scalar(text("select pg_backend_pid()")) != first
    assert log_lines.one("database.connection_discarded")["left_behind"] == [left_behind]


async def test_a_role_that_is_kept_is_thrown_away(
    database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    # The tenant role is a member of no other role; a superuser is of all.
    database = Database(tenant_url=database_urls.superuser)
    with within(database, "ua"):
        async with tenant_session() as session:
            await send_unchecked(session, "set role tenancy_platform")
        async with tenant_session() as session:
            assert await session.scalar(text("select current_user")) == "postgres"
    await database.dispose()
    assert log_lines.one("database.connection_discarded")["left_behind"] == ["role"]


async def test_a_connection_that_keeps_a_search_path_is_thrown_away(
    database: Database, log_lines: LogLines
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            await send_unchecked(session, "set search_path = pg_temp")
    assert log_lines.one("database.connection_discarded")["left_behind"] == ["search_path"]


async def test_a_connection_that_is_still_in_a_transaction_is_thrown_away(
    database: Database, log_lines: LogLines
) -> None:
    async with database.tenant_engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, TenantConnection)
        with driver.own_statements():
            await driver.execute("select 1")
    assert log_lines.one("database.connection_discarded")["left_behind"] == ["transaction"]


async def test_nothing_else_outlives_a_session_on_its_connection(
    database_urls: DatabaseUrls,
) -> None:
    database = Database(tenant_url=database_urls.tenant, tenant_pool_size=1)
    with within(database, "ua"):
        async with tenant_session() as session:
            pid = await session.scalar(text("select pg_backend_pid()"))
            await session.execute(text("create temporary table kept as select 'secret' as row"))
            await session.execute(text("declare held cursor with hold for select 'secret'"))
            await session.execute(text("prepare named as select 'secret'"))
            await session.execute(text("select pg_advisory_lock(1)"))
            await session.execute(text("set work_mem = '1MB'"))
            await send_unchecked(session, "listen channel")
    with within(database, "dl"):
        async with tenant_session() as session:
            left = await session.execute(
                text("""
                    select
                        pg_backend_pid(),
                        current_setting('work_mem'),
                        to_regclass('pg_temp.kept'),
                        (select count(*) from pg_cursors where is_holdable),
                        (select count(*) from pg_prepared_statements),
                        (select count(*) from pg_listening_channels()),
                        (
                            select count(*) from pg_locks
                            where locktype = 'advisory' and pid = pg_backend_pid()
                        )
                """)
            )
            assert tuple(left.one()) == (pid, "4MB", None, 0, 0, 0, 0)
    await database.dispose()


async def test_a_connection_the_server_has_closed_is_replaced(
    database: Database, database_urls: DatabaseUrls
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            pid = await session.scalar(text("select pg_backend_pid()"))
        with connect(database_urls.superuser) as superuser:
            superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])
        assert await days_of(database, "ua") == []


async def test_a_server_that_closes_each_new_connection_is_an_unreachable_database(
    database: Database, database_urls: DatabaseUrls
) -> None:
    """As in a storm of terminated sessions; afterwards a session works again."""

    def close(connection: DBAPIConnection, *_: object) -> None:
        pid = connection.driver_connection.info.backend_pid
        with connect(database_urls.superuser) as superuser:
            superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])

    # Before the pool looks whether the connection is open.
    engine = database.tenant_engine.sync_engine
    event.listen(engine, "checkout", close, insert=True)
    try:
        with within(database, "ua"), pytest.raises(DatabaseUnreachable, match="closed each"):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
    finally:
        event.remove(engine, "checkout", close)
    assert await days_of(database, "ua") == []


async def test_a_connection_lost_in_a_transaction_is_an_unreachable_database(
    database: Database, database_urls: DatabaseUrls
) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            pid = await session.scalar(text("select pg_backend_pid()"))
            with connect(database_urls.superuser) as superuser:
                superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])
            with pytest.raises(DatabaseUnreachable, match="tenancy_tenant"):
                await session.execute(text("select 1"))
            await session.rollback()
    assert await days_of(database, "ua") == []


# Errors


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


async def test_a_unique_violation_names_the_constraint_and_no_values(database: Database) -> None:
    with within(database, "ua"):
        async with tenant_session() as session:
            session.add(usage(events=4711))
        with pytest.raises(IntegrityError) as caught:
            async with tenant_session() as session:
                session.add(usage(events=4712))
    said = told(caught.value)
    assert "pk_daily_usage" in said
    assert "23505" in said
    assert "2013-04-01" not in said
    assert "4712" not in said
    assert caught.value.params is None
    assert caught.value.orig is not None
    assert caught.value.orig.diag.constraint_name == "pk_daily_usage"  # type: ignore[attr-defined]
    assert caught.value.orig.diag.message_detail is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statement",
    [
        "select 'top-secret'::int",
        "select cast(:value as int)",
        "do $$ begin raise exception 'top-secret'; end $$",
        "do $$ begin raise exception using errcode = 'ZZ123', message = 'top-secret'; end $$",
    ],
)
async def test_values_in_an_error_of_the_server_are_withheld(
    database: Database, statement: str
) -> None:
    values = {"value": "top-secret"}

    async def send() -> None:
        async with tenant_session() as session:
            if ":value" in statement:
                await session.execute(text(statement), values)
            else:
                await send_unchecked(session, statement)

    with within(database, "ua"), pytest.raises(DBAPIError) as caught:
        await send()
    server_said = str(caught.value.orig)
    assert "top-secret" not in server_said
    assert "top-secret" not in told(caught.value).replace(statement, "")


async def test_values_in_an_error_of_copy_are_withheld(database: Database) -> None:
    async def copy_in() -> None:
        async with tenant_session() as session:
            await session.execute(text("create temporary table staged (n int) on commit drop"))
            connection = await (await session.connection()).get_raw_connection()
            driver = connection.driver_connection
            assert driver is not None
            async with driver.cursor() as cursor, cursor.copy("copy staged from stdin") as copy:
                await copy.write("top-secret\n")

    with within(database, "ua"), pytest.raises(psycopg.Error, match="SQLSTATE 22P02") as caught:
        await copy_in()
    assert "top-secret" not in told(caught.value)


# The driver's message quotes what it cannot parse: PostgreSQL has dates that Python lacks.
UNREADABLE = "select timestamp '294276-12-31 23:59:42'"


async def by_session(session: AsyncSession) -> None:
    await session.execute(text(UNREADABLE))


async def by_stream(session: AsyncSession) -> None:
    async for _ in await session.stream(text(UNREADABLE)):
        pass


async def by_cursor(session: AsyncSession) -> None:
    async with (await driver_of(session)).cursor() as cursor:
        await cursor.execute(UNREADABLE)
        with pytest.raises(psycopg.DataError, match="cannot read or write") as caught:
            await cursor.fetchone()
        assert "294276" not in told(caught.value)
        await cursor.execute(UNREADABLE)
        with pytest.raises(psycopg.DataError, match="cannot read or write") as caught:
            await cursor.fetchmany(1)
        assert "294276" not in told(caught.value)
        await cursor.execute(UNREADABLE)
        with pytest.raises(psycopg.DataError, match="cannot read or write") as caught:
            async for _ in cursor:
                pass
        assert "294276" not in told(caught.value)
        await cursor.execute(UNREADABLE)
        await cursor.fetchall()


async def by_streaming_cursor(session: AsyncSession) -> None:
    async with (await driver_of(session)).cursor() as cursor:
        async for _ in cursor.stream(UNREADABLE):
            pass


async def by_server_cursor(session: AsyncSession) -> None:
    async with (await driver_of(session)).cursor("named") as cursor:
        await cursor.execute(UNREADABLE)
        await cursor.fetchone()


async def by_copy(session: AsyncSession) -> None:
    driver = await driver_of(session)
    async with driver.cursor() as cursor, cursor.copy(f"copy ({UNREADABLE}) to stdout") as copy:
        copy.set_types(["timestamp"])
        async for _ in copy.rows():
            pass


@pytest.mark.parametrize(
    "read", [by_session, by_stream, by_cursor, by_streaming_cursor, by_server_cursor, by_copy]
)
async def test_values_in_an_error_of_the_driver_are_withheld(
    database: Database, read: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    async def fail() -> None:
        async with tenant_session() as session:
            try:
                await read(session)
            except (DBAPIError, psycopg.Error) as error:
                inside.append(told(error))  # where code might log it
                raise

    inside: list[str] = []
    with within(database, "ua"), pytest.raises((DBAPIError, psycopg.Error)) as caught:
        await fail()
    assert "cannot read or write a value of this type" in str(caught.value)
    assert "294276" not in "".join([*inside, told(caught.value)]).replace(UNREADABLE, "")


async def test_values_that_cannot_be_sent_are_withheld(database: Database) -> None:
    kind = Enum("small", "large", name="kind", validate_strings=True)
    asked = select(literal("top-secret", kind))

    async def send() -> None:
        async with tenant_session() as session:
            await session.execute(asked)

    with within(database, "ua"), pytest.raises(StatementError, match="does not fit") as caught:
        await send()
    assert "top-secret" not in told(caught.value)
    assert caught.value.params is None


async def test_a_nul_in_a_text_is_told_as_what_it_is(database: Database) -> None:
    asked = select(literal("top\0secret"))

    async def send() -> None:
        async with tenant_session() as session:
            await session.execute(asked)

    with within(database, "ua"), pytest.raises(DBAPIError, match="cannot contain NUL") as caught:
        await send()
    assert "secret" not in told(caught.value)


async def test_what_names_no_values_is_still_said(database: Database) -> None:
    with within(database, "ua"), pytest.raises(DBAPIError, match='relation "nowhere" does not'):
        async with tenant_session() as session:
            await session.execute(text("select * from nowhere"))


async def test_an_unreachable_database_is_named_without_credentials(
    database_urls: DatabaseUrls,
) -> None:
    closed = "postgresql://tenancy_tenant:hunter2@127.0.0.1:1/saas"
    database = Database(tenant_url=closed)
    with within(database, "ua"), pytest.raises(DatabaseUnreachable) as caught:
        async with tenant_session() as session:
            await session.execute(text("select 1"))
    await database.dispose()
    assert "127.0.0.1:1/saas" in caught.value.sentence
    assert "hunter2" not in told(caught.value)


async def test_a_wrong_password_is_an_unreachable_database(database_urls: DatabaseUrls) -> None:
    password = database_urls.tenant.split(":")[2].split("@")[0]
    database = Database(tenant_url=database_urls.tenant.replace(password, "hunter2"))
    with within(database, "ua"), pytest.raises(DatabaseUnreachable, match="password") as caught:
        async with tenant_session() as session:
            await session.execute(text("select 1"))
    await database.dispose()
    assert "hunter2" not in told(caught.value)


# Configuration


async def test_a_side_that_is_not_configured_says_so() -> None:
    database = Database()
    with within(database, "ua"), pytest.raises(ConfigurationError, match="tenant_url"):
        async with tenant_session():
            pass
    with use_database(database), pytest.raises(ConfigurationError, match="platform_url"):
        async with platform_session("test"):
            pass


def test_no_database_at_all_says_so() -> None:
    with pytest.raises(ConfigurationError, match="use_database"):
        current_database()


@pytest.mark.parametrize(
    "url", ["", "nonsense hunter2", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d"]
)
def test_a_url_that_is_not_of_postgresql_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(tenant_url=url)
    assert "hunter2" not in told(caught.value)
