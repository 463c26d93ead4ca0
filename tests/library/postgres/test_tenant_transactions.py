"""A tenant's transaction on a psycopg connection of the application's own, sync and async."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from temporalio import workflow

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing, TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter
from temporal_tenancy.outbox import enqueue_in
from temporal_tenancy.postgres import transactions
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import (
    ExcessRights,
    InstallationElsewhere,
    LockHeld,
    StatementTimeout,
    TransactionTimeout,
)
from temporal_tenancy.postgres.raw_session import RawConnection, RawSession, finish
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.held_locks import holding
from tests.fixtures.jobs import relay_jobs  # noqa: F401  (the job test.note)

NOTE = "insert into effects (tenant_id, subject, note) values (%s, 'a', 'b')"
SETTING = "select coalesce(current_setting('app.tenant_id', true), '')"
HELD = "declare held cursor with hold for select 1"


class Door:
    """A connection of either kind, used in the same way."""

    def __init__(self, connection: RawConnection) -> None:
        self.connection = connection

    async def run(self, statement: str, *values: object) -> list[Any]:
        """Sends a statement; returns its rows."""
        sent = statement.encode()
        if isinstance(self.connection, psycopg.AsyncConnection):
            cursor = await self.connection.execute(sent, values or None)
            return await cursor.fetchall() if cursor.description else []
        found = self.connection.execute(sent, values or None)
        return found.fetchall() if found.description else []

    @asynccontextmanager
    async def block(self, **options: Any) -> AsyncIterator[None]:
        """Opens a tenant's transaction."""
        if isinstance(self.connection, psycopg.AsyncConnection):
            async with tenant_transaction(self.connection, **options) as same:
                assert same is self.connection
                yield
        else:
            with tenant_transaction(self.connection, **options) as also:
                assert also is self.connection
                yield

    async def close(self) -> None:
        if isinstance(self.connection, psycopg.AsyncConnection):
            await self.connection.close()
        else:
            self.connection.close()

    async def alone(self, statement: str) -> list[Any]:
        """Sends a statement outside any block, and ends its transaction."""
        rows = await self.run(statement)
        if not self.connection.autocommit:
            await self.run("commit")
        return rows

    @property
    def status(self) -> TransactionStatus:
        return self.connection.info.transaction_status


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


async def opened(url: str, kind: str, autocommit: bool = True) -> Door:
    if kind == "sync":
        return Door(psycopg.connect(plain(url), autocommit=autocommit))
    return Door(await psycopg.AsyncConnection.connect(plain(url), autocommit=autocommit))


@pytest.fixture(scope="module")
def shared_urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("raw_connections", template=migrated_template)
    postgres.drop_database("raw_connections")


@pytest.fixture
def database_urls(shared_urls: DatabaseUrls) -> Iterator[DatabaseUrls]:
    """The module's database, emptied after each test."""
    yield shared_urls
    with connect(shared_urls.superuser) as superuser:
        superuser.execute("drop function if exists copies() cascade")
        superuser.execute("delete from effects")


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sync in autocommit mode", "async"])
async def door(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> AsyncIterator[Door]:
    kind, _, autocommit = request.param.partition(" ")
    door = await opened(database_urls.tenant, kind, bool(autocommit))
    yield door
    await door.close()


@pytest.fixture
def sync(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(plain(database_urls.tenant), autocommit=True) as connection:
        yield connection


def committed(urls: DatabaseUrls) -> list[str]:
    """Returns the tenants of all committed effects, as a superuser sees them."""
    with connect(urls.superuser) as superuser:
        rows = superuser.execute("select tenant_id from effects order by 1").fetchall()
    return [tenant for (tenant,) in rows]


def scope(tenant: str) -> Any:
    return enter(TenantScope(tenant))


async def test_a_block_sees_and_writes_the_current_tenants_rows_alone(
    door: Door, database_urls: DatabaseUrls
) -> None:
    for tenant in ("acme", "globex"):
        with scope(tenant):
            async with door.block():
                await door.run(NOTE, tenant)
    with scope("acme"):
        async with door.block():
            assert await door.run("select tenant_id from effects") == [("acme",)]
            await door.run("update effects set note = 'c'")
            await door.run("delete from effects where tenant_id = 'globex'")
    assert committed(database_urls) == ["acme", "globex"]


async def test_a_row_of_another_tenant_is_refused(door: Door, database_urls: DatabaseUrls) -> None:
    with scope("acme"), pytest.raises(TenantMismatch, match="row-level security refused"):
        async with door.block():
            await door.run(NOTE, "acme")
            await door.run(NOTE, "globex")
    assert committed(database_urls) == []


async def test_an_error_rolls_back_and_names_no_value(
    door: Door, database_urls: DatabaseUrls
) -> None:
    with scope("secretive"):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as refused:
            async with door.block():
                await door.run(NOTE, "secretive")
                await door.run("select cast(%s as int)", "secretive")
        with pytest.raises(ValueError, match="own"):
            async with door.block():
                await door.run(NOTE, "secretive")
                raise ValueError("own")
        async with door.block():
            await door.run(NOTE, "secretive")
            raise psycopg.Rollback
    assert "secretive" not in str(refused.value)
    assert "secretive" not in str(refused.value.diag.message_primary)
    assert refused.value.sqlstate == "22P02"
    assert committed(database_urls) == []
    assert door.status is TransactionStatus.IDLE


async def test_an_error_that_the_block_ignores_does_not_pass_for_a_commit(
    door: Door, database_urls: DatabaseUrls
) -> None:
    with scope("acme"), pytest.raises(psycopg.errors.InFailedSqlTransaction):
        async with door.block():
            await door.run(NOTE, "acme")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await door.run("select 1 / 0")
    assert committed(database_urls) == []


async def test_without_a_tenant_nothing_is_sent(door: Door) -> None:
    await door.close()  # sending would fail
    for around in (None, enter(PlatformScope("a test"))):
        with pytest.raises(ScopeMissing):
            if around is None:
                async with door.block():
                    pytest.fail("entered")
            else:
                with around:
                    async with door.block():
                        pytest.fail("entered")


async def test_workflow_code_is_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.close()
    with scope("acme"):
        monkeypatch.setattr(workflow, "in_workflow", lambda: True)
        with pytest.raises(ScopeMissing, match="replayed"):
            async with door.block():
                pytest.fail("entered")


async def test_every_transaction_has_its_limits_and_leaves_none(door: Door) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    shown = f"select {', '.join(f'current_setting({name!r})' for name in names)}"
    before = await door.alone(shown)
    with scope("acme"):
        async with door.block():
            assert await door.run(shown) == [("30s", "5s", "30s")]
            assert await door.run("show transaction_timeout") == [("1min",)]
        own = SessionLimits(statement=timedelta(seconds=3))
        async with door.block(limits=own):
            assert (await door.run(shown))[0][0] == "3s"
    assert await door.alone(shown) == before


async def test_a_limit_that_is_reached_has_its_own_error(
    door: Door, database_urls: DatabaseUrls
) -> None:
    soon = timedelta(milliseconds=50)
    with scope("acme"):
        with pytest.raises(StatementTimeout):
            async with door.block(limits=SessionLimits(statement=soon)):
                await door.run("select pg_sleep(10)")
        with (
            holding(database_urls.superuser, "acme", "lock table effects"),
            pytest.raises(LockHeld),
        ):
            async with door.block(limits=SessionLimits(lock=soon)):
                await door.run(NOTE, "acme")
        with pytest.raises(TransactionTimeout):
            async with door.block(limits=SessionLimits(transaction=soon)):
                await door.run("select pg_sleep(10)")


async def test_where_the_server_does_not_count_a_late_commit_is_refused(
    door: Door, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_COUNTED_SINCE", 10**9)
    with scope("acme"):
        async with door.block():
            assert await door.run("show transaction_timeout") != [("1min",)]
        with pytest.raises(TransactionTimeout):
            async with door.block(limits=SessionLimits(transaction=timedelta(milliseconds=1))):
                await door.run(NOTE, "acme")
                await door.run("select pg_sleep(0.005)")
    assert committed(database_urls) == []


async def test_nothing_of_the_tenant_is_left_on_the_connection(door: Door) -> None:
    await door.alone("create temporary table early (note text)")
    await door.alone("select pg_advisory_lock(7)")
    with scope("acme"):
        async with door.block():
            await door.run("set statement_timeout = '7s'")
            await door.run("create temporary table kept (note text)")
            await door.run("insert into kept values ('a secret')")
            await door.run(HELD)
            await door.run("set app.tenant_id = 'acme'")  # without LOCAL: a commit keeps it
    assert await door.alone(SETTING) == [("",)]
    assert await door.alone("select current_user = session_user") == [(True,)]
    assert await door.alone("select name from pg_cursors where name = 'held'") == []
    assert await door.alone("select to_regclass('pg_temp.kept'), to_regclass('pg_temp.early')") == [
        (None, None)
    ]
    # Not a tenant's rows, so these stay: the page says so.
    assert await door.alone("select pg_advisory_unlock(7)") == [(True,)]
    assert await door.alone("show statement_timeout") == [("7s",)]


async def test_cursors_of_before_the_block_stay_open(door: Door) -> None:
    await door.alone(HELD)
    with scope("acme"):
        async with door.block():
            await door.run("declare inside cursor with hold for select 2")
    assert await door.alone("fetch held") == [(1,)]


async def test_a_prepared_statement_stays_and_sees_the_next_tenants_rows(door: Door) -> None:
    query = "select tenant_id from effects where note = %s"
    for tenant in ("acme", "globex"):
        with scope(tenant):
            async with door.block():
                await door.run(NOTE, tenant)
                for _ in range(7):  # the driver prepares it at the sixth
                    assert await door.run(query, "b") == [(tenant,)]
    assert await door.alone("select count(*) > 0 from pg_prepared_statements") == [(True,)]
    assert await door.alone("select tenant_id from effects") == []


async def test_a_block_inside_one_of_the_same_tenant_is_a_savepoint(
    door: Door, database_urls: DatabaseUrls
) -> None:
    with scope("acme"):
        async with door.block():
            await door.run(NOTE, "acme")
            with pytest.raises(TenantMismatch):
                async with door.block():
                    await door.run(NOTE, "acme")
                    await door.run(NOTE, "globex")
            async with door.block():
                await door.run(NOTE, "acme")
    assert committed(database_urls) == ["acme", "acme"]


async def test_a_block_inside_one_of_another_tenant_is_refused(
    door: Door, database_urls: DatabaseUrls
) -> None:
    async def as_another() -> None:
        with scope("globex"), pytest.raises(TenantMismatch, match='belongs to tenant "acme"'):
            async with door.block():
                pytest.fail("entered")

    outside = copy_context()
    with scope("acme"):
        async with door.block():
            await door.run(NOTE, "acme")
            await asyncio.create_task(as_another(), context=outside)
    assert committed(database_urls) == ["acme"]


async def test_a_connection_in_a_transaction_is_refused(door: Door) -> None:
    await door.run("begin" if door.connection.autocommit else "select 1")
    with scope("acme"):
        with pytest.raises(ScopeMissing, match="not begun for tenant acme"):
            async with door.block():
                pytest.fail("entered")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await door.run("select 1 / 0")
        with pytest.raises(ScopeMissing, match="not begun for tenant acme"):
            async with door.block():
                pytest.fail("entered")


async def test_a_commit_whose_scope_has_closed_is_refused(
    door: Door, database_urls: DatabaseUrls
) -> None:
    around = scope("acme")
    around.__enter__()
    with pytest.raises(ScopeMissing):
        async with door.block():
            await door.run(NOTE, "acme")
            around.__exit__(None, None, None)
    assert committed(database_urls) == []
    assert door.status is TransactionStatus.IDLE


async def test_a_commit_in_another_tenants_scope_is_refused(
    door: Door, database_urls: DatabaseUrls
) -> None:
    first, second = scope("acme"), scope("globex")
    first.__enter__()
    with pytest.raises(TenantMismatch, match='belongs to tenant "acme"'):
        async with door.block():
            await door.run(NOTE, "acme")
            first.__exit__(None, None, None)
            second.__enter__()
    second.__exit__(None, None, None)
    assert committed(database_urls) == []


async def test_a_savepoint_in_another_scope_is_refused_too(
    door: Door, database_urls: DatabaseUrls
) -> None:
    around = scope("acme")
    around.__enter__()
    with pytest.raises(ScopeMissing):
        async with door.block(), door.block():
            await door.run(NOTE, "acme")
            around.__exit__(None, None, None)
    assert committed(database_urls) == []


def test_a_generator_that_is_abandoned_commits_nothing(
    sync: psycopg.Connection[Any], database_urls: DatabaseUrls
) -> None:
    def rows() -> Iterator[int]:
        with tenant_transaction(sync):
            sync.execute(NOTE, ["acme"])
            yield 1
            yield 2

    with scope("acme"):
        for _ in rows():
            break
        gc.collect()
    assert committed(database_urls) == []
    assert sync.info.transaction_status is TransactionStatus.IDLE


def test_a_generator_that_outlives_its_scope_cannot_commit(
    sync: psycopg.Connection[Any], database_urls: DatabaseUrls
) -> None:
    def rows() -> Iterator[int]:
        with tenant_transaction(sync):
            sync.execute(NOTE, ["acme"])
            yield 1

    with scope("acme"):
        started = rows()
        next(started)
    with pytest.raises(ScopeMissing):
        next(started)
    assert committed(database_urls) == []


def test_a_thread_has_no_scope_of_its_own(sync: psycopg.Connection[Any]) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with tenant_transaction(sync):
                pytest.fail("entered")
        except ScopeMissing as error:
            raised.append(error)

    with scope("acme"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(raised) == 1


async def test_a_task_that_is_cancelled_in_the_block_commits_nothing(
    database_urls: DatabaseUrls,
) -> None:
    door = await opened(database_urls.tenant, "async")
    written = asyncio.Event()

    async def work() -> None:
        with scope("acme"):
            async with door.block():
                await door.run(NOTE, "acme")
                written.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.status is TransactionStatus.IDLE
    assert committed(database_urls) == []
    await door.close()


async def test_the_drivers_own_commit_is_refused_inside(door: Door) -> None:
    with scope("acme"), pytest.raises(psycopg.ProgrammingError, match="forbidden"):
        async with door.block():
            if isinstance(door.connection, psycopg.AsyncConnection):
                await door.connection.commit()
            else:
                door.connection.commit()


@pytest.mark.parametrize("statement", ["commit", "rollback", "commit; begin"])
async def test_a_transaction_that_sql_ends_shows_no_rows_and_is_noticed(
    door: Door, database_urls: DatabaseUrls, statement: str
) -> None:
    with scope("acme"):
        with pytest.raises(ScopeMissing, match="ended the transaction"):
            async with door.block():
                await door.run(NOTE, "acme")
                await door.run(statement)
                assert await door.run("select from effects") == []
        assert door.connection.closed
    # What SQL has committed stays so: this is what the helper cannot prevent.
    assert committed(database_urls) == (["acme"] if statement.startswith("commit") else [])


async def test_a_block_after_sql_has_ended_the_outer_one_is_refused(
    kind: str, database_urls: DatabaseUrls
) -> None:
    door = await opened(database_urls.tenant, kind)
    with scope("acme"), pytest.raises(ScopeMissing, match="ended the transaction"):
        async with door.block():
            await door.run("rollback")
            async with door.block():
                pytest.fail("entered")
    await door.close()


@pytest.mark.parametrize("local", ["", "local "])
async def test_a_tenant_that_sql_changes_is_noticed_before_the_commit(
    door: Door, database_urls: DatabaseUrls, local: str
) -> None:
    with scope("acme"), pytest.raises(TenantMismatch, match="changed the tenant"):
        async with door.block():
            await door.run(f"set {local}app.tenant_id = 'globex'")
            await door.run(NOTE, "globex")
    assert committed(database_urls) == []
    assert door.connection.closed


async def test_a_tenant_that_sql_sets_and_sets_back_is_not_noticed(
    door: Door, database_urls: DatabaseUrls
) -> None:
    """What only the statement guard of a tenant_session() prevents."""
    with scope("acme"):
        async with door.block():
            await door.run("set local app.tenant_id = 'globex'")
            await door.run(NOTE, "globex")
            await door.run("set local app.tenant_id = 'acme'")
    assert committed(database_urls) == ["globex"]


async def test_deferred_triggers_run_for_the_tenant(
    door: Door, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("""
            create function copies() returns trigger language plpgsql as $$
            begin
                if new.note = 'b' then
                    insert into effects (tenant_id, subject, note)
                    values (current_setting('app.tenant_id'), 'copy', 'c');
                end if;
                return null;
            end $$
        """)
        superuser.execute("""
            create constraint trigger copies after insert on effects
            deferrable initially deferred for each row execute function copies()
        """)
        superuser.execute("grant execute on function copies() to tenancy_tenant")
    with scope("acme"):
        async with door.block():
            await door.run(NOTE, "acme")
    assert committed(database_urls) == ["acme", "acme"]


@pytest.mark.parametrize("role", ["superuser", "owner", "relay", "platform", "bypassing", "owning"])
async def test_a_role_that_sees_more_than_one_tenant_is_refused(
    kind: str, database_urls: DatabaseUrls, role: str
) -> None:
    url = getattr(database_urls, role, database_urls.superuser)
    door = await opened(url, kind)
    if role in ("bypassing", "owning"):
        right = "bypassrls" if role == "bypassing" else "in role tenancy_owner"
        await door.run(f"create role {role} {right}")
        await door.run(f"set session authorization {role}")
    with scope("acme"), pytest.raises(ExcessRights, match="all tenants"):
        async with door.block():
            pytest.fail("entered")
    assert door.status is TransactionStatus.IDLE
    if role in ("bypassing", "owning"):
        await door.run("reset session authorization")
        await door.run(f"drop role {role}")
    await door.close()


async def test_a_login_that_acts_as_the_tenant_role_is_checked_too(
    kind: str, database_urls: DatabaseUrls
) -> None:
    door = await opened(database_urls.superuser, kind)
    await door.run("set role tenancy_tenant")
    with scope("acme"), pytest.raises(ExcessRights, match="postgres is a superuser"):
        async with door.block():
            pytest.fail("entered")
    await door.close()


async def test_rights_are_asked_once_for_each_connection_and_role(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def count(session: object) -> None:
        asked.append(session)

    monkeypatch.setattr(transactions, "refuse_excess_rights", count)
    with scope("acme"):
        for _ in range(3):
            async with door.block():
                pass
    assert len(asked) == 1


def test_rows_of_any_shape_and_pools_are_fine(database_urls: DatabaseUrls) -> None:
    with (
        ConnectionPool(
            plain(database_urls.tenant),
            min_size=1,
            max_size=1,
            kwargs={"row_factory": dict_row, "autocommit": True},
        ) as pool,
        scope("acme"),
    ):
        for expected in range(2):
            with pool.connection() as connection, tenant_transaction(connection):
                found: Any = connection.execute("select count(*) from effects").fetchone()
                assert found == {"count": expected}
                connection.execute(NOTE, ["acme"])


def test_a_pipeline_is_fine(sync: psycopg.Connection[Any], database_urls: DatabaseUrls) -> None:
    with scope("acme"), sync.pipeline(), tenant_transaction(sync):
        sync.execute(NOTE, ["acme"])
        sync.execute("create temporary table kept (note text)")
        sync.execute(HELD)
    assert committed(database_urls) == ["acme"]
    assert sync.execute("select to_regclass('pg_temp.kept')").fetchone() == (None,)


@pytest.mark.parametrize("given", [None, "postgresql://", 7])
def test_what_is_no_connection_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match="psycopg"):
        tenant_transaction(given)  # type: ignore[call-overload]


def test_the_schema_of_the_librarys_tables_is_found(
    sync: psycopg.Connection[Any], database_urls: DatabaseUrls
) -> None:
    assert finish(RawSession(sync).schema_in_use()) == "tenancy"
    with connect(database_urls.superuser) as superuser:
        superuser.execute("create schema moved")
        superuser.execute("create table moved.control_plane_version (version_num text)")
    assert finish(RawSession(sync, "moved").schema_in_use()) == "moved"
    with pytest.raises(
        InstallationElsewhere, match=r"in the schema moved and tenancy of .* TENANCY"
    ):
        finish(RawSession(sync, "elsewhere").schema_in_use())
    with connect(database_urls.superuser) as superuser:
        superuser.execute("drop schema moved cascade")


def test_a_schema_that_is_not_named_is_said_where_it_is_needed(
    sync: psycopg.Connection[Any], database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("alter schema tenancy rename to jobs")
    with scope("acme"):
        with tenant_transaction(sync):
            sync.execute(NOTE, ["acme"])  # one of the application's own tables
        with (
            pytest.raises(
                InstallationElsewhere, match=r"schema jobs .* tenant_transaction\(schema="
            ),
            tenant_transaction(sync),
        ):
            enqueue_in(sync, "test.note", {"text": "x"}, key="1")
        with tenant_transaction(sync, schema="jobs"):
            enqueue_in(sync, "test.note", {"text": "x"}, key="1")


def test_work_over_a_sync_connection_never_waits() -> None:
    async def waiting() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="event loop"):
        finish(waiting())
