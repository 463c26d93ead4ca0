"""The connections of a process to many stores: one cap, stores that are down, URLs that change."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context

import pytest
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus, use_tenant_record
from temporal_tenancy.core.errors import ConfigurationError, StoreMismatch, StoreUnsupported
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.stores import Isolation, Store
from temporal_tenancy.postgres import _engines as engines
from temporal_tenancy.postgres._servers import SLOW, Server, ServerSilent
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, PoolUse, tenant_session
from temporal_tenancy.postgres.database_errors import (
    DatabaseUnreachable,
    PoolExhausted,
    PoolShareExceeded,
)
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import within
from tests.fixtures.stores import Places, database_store

STORES = 200
CAP = 20
MAKE = """
    do $$ begin
        for number in 0..199 loop
            execute format('create schema s%1$s', number);
            execute format('create table s%1$s.store_identity as '
                'select ''s%1$s'' as store, ''t%1$s'' as tenant_id', number);
            execute format('grant usage on schema s%1$s to tenancy_tenant', number);
            execute format('grant select on s%1$s.store_identity to tenancy_tenant', number);
        end loop;
    end $$
"""
OPEN = """
    select count(*) from pg_stat_activity
    where datname = current_database() and usename = 'tenancy_tenant'
"""


def store(urls: DatabaseUrls, number: int, name: str | None = None) -> Store:
    """A store of its own to the process, whose URL differs from the others' by a name."""
    url = f"{urls.tenant}?application_name={name or f's{number}'}"
    return Store(f"s{number}", Isolation.DATABASE, url=url, schema=f"s{number}")


@pytest.fixture
def many(database_urls: DatabaseUrls) -> Places:
    """A store for each of two hundred tenants."""
    with connect(database_urls.superuser) as superuser:
        superuser.execute(MAKE)
    return Places({f"t{number}": store(database_urls, number) for number in range(STORES)})


@asynccontextmanager
async def opened(
    urls: DatabaseUrls, places: Places, cap: int, share: PoolShare | None = None
) -> AsyncIterator[Database]:
    database = Database(
        tenant_url=urls.tenant, max_connections=cap, stores=places, tenant_pool=share
    )
    try:
        yield database
    finally:
        await database.dispose()


async def ask(database: Database, tenant: str) -> str:
    """Returns the tenant that the server sees in the tenant's session."""
    with within(database, tenant):
        async with tenant_session() as session:
            return str(await session.scalar(text("select current_setting('app.tenant_id')")))


def open_on_the_server(urls: DatabaseUrls) -> int:
    with connect(urls.superuser) as superuser:
        row = superuser.execute(OPEN).fetchone()
    assert row is not None
    return int(row[0])


async def test_two_hundred_stores_share_twenty_connections(
    database_urls: DatabaseUrls, many: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hang if an idle connection of one store kept another store from one."""
    monkeypatch.setattr(engines, "STORE_CONNECT_TIMEOUT", 60.0)  # the machine may be busy
    most = 0

    async def work(tenant: str) -> None:
        nonlocal most
        assert await ask(database, tenant) == tenant
        most = max(most, database.pools()["tenant"].open)

    patient = PoolShare(timeout=120)
    async with opened(database_urls, many, CAP, patient) as database, asyncio.timeout(240):
        await asyncio.gather(*map(work, many.stores))
        assert most == CAP
        assert database.pools()["tenant"] == PoolUse(CAP, 0, 0, CAP)
        assert open_on_the_server(database_urls) <= CAP
        # All twenty are idle now, and those of the stores that were asked first are gone.
        await asyncio.gather(*(ask(database, f"t{number}") for number in range(CAP)))
        assert database.pools()["tenant"].open == CAP
    assert database.pools()["tenant"].open == 0


async def test_a_session_inside_another_never_waits_for_the_cap(
    database_urls: DatabaseUrls, many: Places
) -> None:
    """Each of two holds one of the two connections, and asks for a second one."""
    both = asyncio.Barrier(2)

    async def nest(tenant: str) -> None:
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
                await both.wait()
                with pytest.raises(PoolShareExceeded):
                    await ask(database, tenant)
                await both.wait()

    async with opened(database_urls, many, 2) as database, asyncio.timeout(60):
        await asyncio.gather(nest("t0"), nest("t1"))
        assert await ask(database, "t2") == "t2"


async def test_who_waits_too_long_is_told_who_holds_the_connections(
    database_urls: DatabaseUrls, many: Places
) -> None:
    share = PoolShare(timeout=0.05)
    async with opened(database_urls, many, 1, share) as database:
        with within(database, "t0"):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
                task = asyncio.create_task(_unrelated(database, "t1"))
                with pytest.raises(PoolExhausted, match=r"held by tenant t0 \(1\)"):
                    await task
        assert await ask(database, "t1") == "t1"


async def _unrelated(database: Database, tenant: str) -> None:
    await asyncio.create_task(ask(database, tenant), context=Context())


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_connection_is_refused(database_urls: DatabaseUrls, cap: int) -> None:
    with pytest.raises(ConfigurationError, match="at least one connection"):
        Database(tenant_url=database_urls.tenant, max_connections=cap, stores=Places())


# Stores that are down


@contextmanager
def listener() -> Iterator[int]:
    """A port whose server takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


def down(port: int, name: str) -> Store:
    url = f"postgresql+psycopg://inventor:hunter2@127.0.0.1:{port}/plans"
    return Store(name, Isolation.DATABASE, url=url)


def requires_no_url(error: BaseException, log_lines: LogLines) -> None:
    shown = "".join(traceback.format_exception(error)) + repr(error) + log_lines.text
    chain: BaseException | None = error
    while chain is not None:  # as in a workflow's history
        shown += str(chain) + repr(chain)
        chain = chain.__cause__
    for part in ("hunter2", "inventor", "/plans"):
        assert part not in shown


async def test_a_store_whose_server_is_away_is_named_and_nothing_of_its_url(
    database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    places = Places({"ua": down(port, "s9")})
    async with opened(database_urls, places, 2) as database:
        with pytest.raises(DatabaseUnreachable, match='the store "s9" refused') as caught:
            await ask(database, "ua")
        requires_no_url(caught.value, log_lines)
        assert await ask(database, "dl") == "dl"
        assert "hunter2" not in repr(places.stores["ua"])


async def test_a_store_with_a_wrong_password_is_named_and_nothing_of_its_url(
    database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    port = int(database_urls.tenant.rpartition(":")[2].partition("/")[0])
    async with opened(database_urls, Places({"ua": down(port, "s9")}), 2) as database:
        with pytest.raises(DatabaseUnreachable, match='the store "s9" refused') as caught:
            await ask(database, "ua")
        requires_no_url(caught.value, log_lines)


async def test_stores_on_a_silent_server_leave_the_cap_to_others(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr(engines, "STORE_CONNECT_TIMEOUT", 0.3)
    with listener() as port:
        silent = {f"x{number}": down(port, f"s{number}") for number in range(20)}
        async with opened(database_urls, Places(dict(silent)), 2) as database:
            with pytest.raises(DatabaseUnreachable, match='"s0" does not answer') as caught:
                await ask(database, "x0")
            requires_no_url(caught.value, log_lines)
            tasks = [asyncio.create_task(ask(database, tenant)) for tenant in silent]
            assert await ask(database, "dl") == "dl"
            failed = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(error) for error in failed} == {DatabaseUnreachable}
            assert database.pools()["tenant"].in_use == 0


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_silent_server_fails_at_once_for_as_long_as_it_was_waited_for() -> None:
    clock = Clock()
    server = Server(clock)
    with suppress(ServerSilent), server.attempt():
        clock.now += 5
        raise ServerSilent
    clock.now += 4.9
    with pytest.raises(ServerSilent):
        await server.admit(object())
    clock.now += 0.2
    assert await server.admit(object()) is True
    waiting = asyncio.create_task(server.admit(object()))
    await asyncio.sleep(0)
    assert not waiting.done()
    with server.attempt():
        pass
    server.dismiss()
    assert await waiting is False  # it answers again, so everybody may connect


async def test_others_wait_for_the_end_of_a_slow_attempt() -> None:
    clock = Clock()
    server = Server(clock)
    with server.attempt():
        assert await server.admit(object()) is False
        clock.now += SLOW
        waiting = asyncio.create_task(server.admit(object()))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting is False


# Other places


async def test_another_url_replaces_the_engine(database_urls: DatabaseUrls, many: Places) -> None:
    async with opened(database_urls, many, 4) as database:
        with within(database, "t0"):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
                many.stores["t0"] = store(database_urls, 0, name="rotated")
                name = "select current_setting('application_name')"
                inside = await asyncio.create_task(_name_in_another_session(database, name))
                assert inside == "rotated"
                assert await session.scalar(text(name)) == "s0"
        assert database.pools()["tenant"].open == 1  # the old one was closed when it came back


async def _name_in_another_session(database: Database, query: str) -> object:
    with within(database, "t0"):
        async with tenant_session() as session:
            return await session.scalar(text(query))


async def test_a_database_that_another_store_has_taken_over_is_noticed(
    postgres: EmbeddedPostgres, database_urls: DatabaseUrls, migrated_template: str
) -> None:
    with (
        database_store(postgres, migrated_template, "ua") as one,
        database_store(postgres, migrated_template, "dl") as two,
    ):
        places = Places({"ua": Store(one.name, one.isolation, url=two.url)})
        async with opened(database_urls, places, 3) as database:
            with pytest.raises(StoreMismatch, match=f'the store "{two.name}" of tenant "dl"'):
                await ask(database, "ua")


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA, Isolation.DATABASE])
def test_a_connection_of_ones_own_is_not_used_for_a_tenant_with_a_store(
    database_urls: DatabaseUrls, isolation: Isolation
) -> None:
    tenant = Tenant(
        id="ua",
        name="ua",
        status=TenantStatus.ACTIVE,
        plan=Plan(id="plan"),
        isolation=isolation,
        store="s9",
    )
    with (
        connect(database_urls.tenant) as connection,
        enter(TenantScope("ua")),
        use_tenant_record(tenant),
        pytest.raises(StoreUnsupported, match="s9"),
        tenant_transaction(connection),
    ):
        pass
