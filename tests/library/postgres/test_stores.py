"""Sessions in the three isolations: what each keeps apart, and what it does when it is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date

import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.errors import (
    ConfigurationError,
    StatementRefused,
    StoreMismatch,
    TenantMismatch,
)
from temporal_tenancy.core.stores import Isolation, Store
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.outbox import enqueue, once
from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres import tenant_owned
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.log_lines import LogLines
from tests.fixtures.postgres import within
from tests.fixtures.stores import Fleet
from tests.fixtures.tables.models import DailyUsage

DAY = date(2013, 4, 1)
STATE = text("""
    select coalesce(current_setting('app.tenant_id', true), ''), current_user::text,
        current_setting('search_path')
""")
ALONE = [Isolation.SCHEMA, Isolation.DATABASE]


async def write(fleet: Fleet, tenant: str, day: date = DAY) -> None:
    with within(fleet.database, tenant):
        async with tenant_session() as session:
            session.add(DailyUsage(day=day, events=1, cancelled=0, distance=0, air_time=0))


async def days(fleet: Fleet, tenant: str) -> list[tuple[str, date]]:
    with within(fleet.database, tenant):
        async with tenant_session() as session:
            rows = await session.execute(text("select tenant_id, day from daily_usage"))
            return [(owner, day) for owner, day in rows]


# The checks that every set-up has to pass, and a wrong one fails


async def each_tenants_rows_are_in_its_own_store(fleet: Fleet) -> None:
    """Writes for two tenants, and compares what a superuser finds."""
    await write(fleet, fleet.tenant)
    await write(fleet, fleet.other, date(2013, 4, 2))
    both = [(fleet.other, "2013-04-02"), (fleet.tenant, "2013-04-01")]
    for tenant, row in ((fleet.tenant, both[1]), (fleet.other, both[0])):
        assert fleet.days(tenant) == (both if fleet.isolation is Isolation.SHARED else [row])


async def each_tenant_reads_its_own_rows(fleet: Fleet) -> None:
    """Reads for two tenants without naming them in the SQL."""
    await write(fleet, fleet.tenant)
    await write(fleet, fleet.other)
    for tenant in (fleet.tenant, fleet.other):
        assert await days(fleet, tenant) == [(tenant, DAY)]


async def nothing_is_left_on_a_connection(fleet: Fleet) -> None:
    """Looks on the connection itself, right after the transaction."""
    with within(fleet.database, fleet.tenant):
        async with tenant_session() as session:
            raw = await (await session.connection()).get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            inside = tuple((await session.execute(STATE)).one())
            await driver.commit()
            with driver.own_statements():
                after = await (await driver.execute(STATE.text)).fetchone()
            await driver.rollback()
    store = fleet.places.stores[fleet.tenant]
    assert inside[:2] == (fleet.tenant, store.role or "tenancy_tenant")
    if store.schema is not None:
        assert inside[2] == f'"{store.schema}", "tenancy", pg_catalog'
    assert after == ("", "tenancy_tenant", '"$user", public')


async def the_next_tenant_finds_its_own_tables(fleet: Fleet) -> None:
    """Uses the same connection for a tenant in the shared tables."""
    await write(fleet, fleet.tenant)
    await write(fleet, "hp")
    assert await days(fleet, "hp") == [("hp", DAY)]
    with connect(fleet.urls.superuser) as superuser:
        rows = superuser.execute("select from public.daily_usage where tenant_id = 'hp'").fetchall()
    assert len(rows) == 1


CHECKS: list[Callable[[Fleet], Awaitable[None]]] = [
    each_tenants_rows_are_in_its_own_store,
    each_tenant_reads_its_own_rows,
    nothing_is_left_on_a_connection,
    the_next_tenant_finds_its_own_tables,
]


@pytest.mark.parametrize("check", CHECKS)
async def test_a_sound_set_up_passes(
    fleet: Fleet, check: Callable[[Fleet], Awaitable[None]], log_lines: LogLines
) -> None:
    await check(fleet)
    assert log_lines.all("database.connection_discarded") == []


def keep_the_role(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    _change_entry(monkeypatch, "set_config('role', '{role}', true)", fleet)


def keep_the_path(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fleet.places.stores[fleet.tenant]
    path = f'\'"{store.schema}", "tenancy", pg_catalog\''
    _change_entry(monkeypatch, f"set_config('search_path', {path}, true)", fleet)


def set_for_the_session(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tenant_owned,
        "_SET_TENANT",
        tenant_owned._SET_TENANT.replace(":tenant, true", ":tenant, false"),
    )
    tenant_owned._set_tenant.cache_clear()
    store_entry._message.cache_clear()


def swap_the_identities(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for tenant, owner in ((fleet.tenant, fleet.other), (fleet.other, fleet.tenant)):
        say_whose(fleet, tenant, "update {} set tenant_id = {}", owner)


def swap_the_stores(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = fleet.tenant, fleet.other
    stores = fleet.places.stores
    stores[one], stores[two] = stores[two], stores[one]


def _change_entry(monkeypatch: pytest.MonkeyPatch, part: str, fleet: Fleet) -> None:
    """Makes one setting of the first message the session's, rather than the transaction's."""
    real = store_entry._message.__wrapped__

    def message(store: Store, tenant: str, first: str, library: str) -> str:
        sent = real(store, tenant, first, library)
        wanted = part.format(role=store.role)
        own = fleet.places.stores[fleet.tenant]
        assert wanted in sent or store != own
        return str(sent).replace(wanted, wanted.replace("true)", "false)"))

    monkeypatch.setattr(store_entry, "_message", message)


def say_whose(fleet: Fleet, tenant: str, statement: str, *values: str | None) -> None:
    url, schema = fleet.where(tenant)
    with connect(url) as superuser:
        superuser.execute(
            sql.SQL(statement).format(
                sql.Identifier(schema, "store_identity"), *map(sql.Literal, values)
            )
        )


WRONG = [
    (keep_the_role, nothing_is_left_on_a_connection, [Isolation.SCHEMA]),
    (keep_the_path, nothing_is_left_on_a_connection, [Isolation.SCHEMA]),
    (set_for_the_session, nothing_is_left_on_a_connection, list(Isolation)),
    (swap_the_identities, each_tenant_reads_its_own_rows, ALONE),
    (swap_the_stores, each_tenants_rows_are_in_its_own_store, ALONE),
]


@pytest.mark.parametrize(
    ("wrong", "check", "isolation"),
    [
        pytest.param(wrong, check, isolation, id=f"{wrong.__name__}-{isolation}")
        for wrong, check, isolations in WRONG
        for isolation in isolations
    ],
    indirect=["isolation"],
)
async def test_a_wrong_set_up_fails_the_same_check(
    wrong: Callable[[Fleet, pytest.MonkeyPatch], None],
    check: Callable[[Fleet], Awaitable[None]],
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    request.addfinalizer(tenant_owned._set_tenant.cache_clear)
    request.addfinalizer(store_entry._message.cache_clear)
    with monkeypatch.context() as changed:
        wrong(fleet, changed)
        with pytest.raises((AssertionError, StoreMismatch)):
            await check(fleet)


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA], indirect=True)
@pytest.mark.parametrize(
    ("wrong", "left"), [(keep_the_role, "role"), (keep_the_path, "search_path")]
)
async def test_what_a_transaction_leaves_behind_costs_the_connection(
    wrong: Callable[[Fleet, pytest.MonkeyPatch], None],
    left: str,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: LogLines,
) -> None:
    wrong(fleet, monkeypatch)
    await write(fleet, fleet.tenant)
    discarded = log_lines.one("database.connection_discarded")
    assert left in discarded["left_behind"]


# Whose the store is


@pytest.mark.parametrize("isolation", ALONE, indirect=True)
@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("update {} set tenant_id = {}", ("dl",)),
        ("update {} set tenant_id = {}", (None,)),
        ("update {} set store = {}", ("another",)),
        ("delete from {}", ()),
        ("drop table {}", ()),
        ("revoke all on {} from {role}", ()),
    ],
)
async def test_a_store_that_is_not_this_tenants_is_neither_read_nor_written(
    fleet: Fleet, statement: str, values: tuple[str | None, ...]
) -> None:
    await write(fleet, fleet.tenant)
    before = fleet.days(fleet.tenant)
    role = fleet.places.stores[fleet.tenant].role or "tenancy_tenant"
    say_whose(fleet, fleet.tenant, statement.replace("{role}", role), *values)
    with (
        within(fleet.database, fleet.tenant),
        pytest.raises(StoreMismatch, match="store") as caught,
    ):
        async with tenant_session() as session:
            await session.execute(text("delete from daily_usage"))
    assert caught.value.non_retryable
    assert fleet.days(fleet.tenant) == before


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA], indirect=True)
@pytest.mark.parametrize("role", ["none", "no_such_role", "tenancy_platform"])
async def test_a_role_that_cannot_be_entered_is_refused(fleet: Fleet, role: str) -> None:
    store = fleet.places.stores[fleet.tenant]
    fleet.places.stores[fleet.tenant] = replace(store, role=role)
    with pytest.raises(StoreMismatch):
        await write(fleet, fleet.tenant)
    assert fleet.days(fleet.tenant) == []


@pytest.mark.parametrize(
    "store",
    [
        Store("s", Isolation.SCHEMA, schema="s"),
        Store("s", Isolation.SCHEMA, role="r"),
        Store("s", Isolation.DATABASE),
        Store("s", Isolation.DATABASE, url="mysql://host/database"),
    ],
)
@pytest.mark.parametrize("isolation", [Isolation.SHARED], indirect=True)
async def test_a_store_without_its_parts_is_refused(fleet: Fleet, store: Store) -> None:
    fleet.places.stores[fleet.tenant] = store
    with pytest.raises(ConfigurationError, match='"s"'):
        await write(fleet, fleet.tenant)


# What SQL reaches


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA], indirect=True)
async def test_sql_that_names_another_schema_is_refused_by_the_server(fleet: Fleet) -> None:
    others = [
        "public.daily_usage",
        f"{fleet.places.stores[fleet.other].schema}.daily_usage",
        f"{fleet.places.stores[fleet.other].schema}.store_identity",
    ]
    for table in others:
        with within(fleet.database, fleet.tenant), pytest.raises(DBAPIError, match="42501"):
            async with tenant_session() as session:
                await session.execute(text(f"select * from {table}"))
    for schema in (fleet.places.stores[fleet.tenant].schema,):
        with within(fleet.database, "hp"), pytest.raises(DBAPIError, match="42501"):
            async with tenant_session() as session:
                await session.execute(text(f"select * from {schema}.daily_usage"))


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "set role {role}",
        "reset role",
        "set session authorization {role}",
        "select set_config('role', '{role}', true)",
        "set local search_path to {schema}",
        "set schema '{schema}'",
    ],
)
async def test_sql_that_changes_role_or_path_is_not_sent(fleet: Fleet, statement: str) -> None:
    other = fleet.places.stores[fleet.other]
    sent = statement.format(role=other.role, schema=other.schema)
    with within(fleet.database, fleet.tenant), pytest.raises(StatementRefused):
        async with tenant_session() as session:
            await session.execute(text(sent))


async def test_the_librarys_tables_are_within_reach(fleet: Fleet) -> None:
    with within(fleet.database, fleet.tenant):
        async with tenant_session() as session:
            message = await enqueue("test.note", {})
            assert await once(session, "mail.send", "event-1")
            assert not await once(session, "mail.send", "event-1")
    url, _ = fleet.where(fleet.tenant)
    with connect(url) as superuser:
        found = superuser.execute("select tenant_id, id from tenancy.outbox_messages").fetchall()
    assert found == [(fleet.tenant, message)]


async def test_a_tenants_session_records_no_letter_of_another(fleet: Fleet) -> None:
    """In a database of its own the letter would be written by the platform, elsewhere."""
    letter = Letter(f"{fleet.other}/test.note/1", Source.RELAY, "Bug", "it failed", attempts=1)
    with within(fleet.database, fleet.tenant), pytest.raises(TenantMismatch):
        await put(letter)


async def put(letter: Letter) -> None:
    async with tenant_session() as session:
        await put_letters(session, [letter])
