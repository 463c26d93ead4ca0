"""Tables whose tenant is in a column of another name and type: uuid, bigint or text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors
from sqlalchemy import column, create_engine, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import aliased, selectinload

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.core.errors import ConfigurationError, TenantInvalid, TenantMismatch
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.core.tenant_id_types import TenantIdType, is_canonical
from temporal_tenancy.lint import catalogue
from temporal_tenancy.postgres import tenant_owned as module
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.row_security import protect, protect_sql, protect_statements
from temporal_tenancy.postgres.tenant_owned import TenantOwned, tenant_owned
from tests.fixtures.postgres import driver_of, within
from tests.fixtures.tenant_columns import (
    AccountOwned,
    ByBigint,
    ByUuid,
    Entry,
    Order,
    OrderLine,
    OrganizationOwned,
    own_tenant_types,
)

ONE, OTHER = "0192f0c1-2b4d-7e8f-9abc-def012345678", "0192f0c1-2b4d-7e8f-9abc-def0123456ff"
MANY = 20_000  # rows, so that the planner prefers an index

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Kind:
    """One type of tenants' columns, with a class and two tenants."""

    id_type: TenantIdType
    cls: Any  # a mapped class
    mixin: type
    column: str
    one: str
    other: str
    value: Callable[[str], object]  # an id as the column's value

    @property
    def table(self) -> str:
        return str(self.cls.__tablename__)


KINDS = [
    Kind("uuid", Order, OrganizationOwned, "organization_id", ONE, OTHER, UUID),
    Kind("bigint", Entry, AccountOwned, "account_id", "7", "8", int),
]


@pytest.fixture(scope="module")
def urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A database with the tables of both applications, protected, and many rows."""
    urls = postgres.create_database("tenant_columns", template=migrated_template)
    engine = create_engine(urls.owner)
    with engine.begin() as owner:
        ByUuid.metadata.create_all(owner)
        ByBigint.metadata.create_all(owner)
        owner.execute(
            text("create table labels (org text not null, id int, primary key (org, id))")
        )
        with Operations.context(MigrationContext.configure(owner)):
            protect("orders", column="organization_id", type="uuid")
            protect("order_lines", column="organization_id", type="uuid")
            protect("entries", column="account_id", type="bigint")
            protect("labels", column="org")
    engine.dispose()
    with connect(urls.superuser) as superuser:
        superuser.execute(
            "insert into orders select gen_random_uuid(), n, '' from generate_series(1, %s) as n",
            [MANY],
        )
        superuser.execute(
            "insert into entries select 1000 + n, n, '' from generate_series(1, %s) as n", [MANY]
        )
        superuser.execute("vacuum analyze")
    yield urls
    postgres.drop_database("tenant_columns")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.id_type)
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """A type, declared as in a process whose classes have it."""
    found: Kind = request.param
    with own_tenant_types(found.id_type):
        module._made[found.column, found.id_type] = found.mixin
        yield found


@pytest.fixture
def superuser(urls: DatabaseUrls, kind: Kind) -> Iterator[Connection]:
    """A superuser; one row of each tenant, number 1 (the one's) and 2 (the other's), is there."""
    with connect(urls.superuser) as connection:
        connection.execute(
            f"insert into {kind.table} values (%s, 1, 'mine'), (%s, 2, 'theirs')",
            [kind.one, kind.other],
        )
        yield connection
        connection.execute("truncate order_lines")
        connection.execute(
            f"delete from {kind.table} where {kind.column} in (%s, %s)", [kind.one, kind.other]
        )


@pytest.fixture
async def database(urls: DatabaseUrls, superuser: Connection) -> Any:
    database = Database(tenant_url=urls.tenant)
    yield database
    await database.dispose()


def as_tenant(urls: DatabaseUrls, tenant: str, statement: str, *values: object) -> list[Any]:
    with connect(urls.tenant) as connection, connection.transaction():
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def rows(superuser: Connection, kind: Kind) -> list[tuple[Any, ...]]:
    return superuser.execute(
        f"select {kind.column}::text, id, note from {kind.table} where note <> '' order by id"
    ).fetchall()


# Row-level security


@pytest.mark.usefixtures("superuser")
def test_a_tenant_sees_its_own_rows_and_without_one_there_are_none(
    urls: DatabaseUrls, kind: Kind
) -> None:
    with connect(urls.tenant) as connection:
        assert connection.execute(f"select id from {kind.table}").fetchall() == []
    assert as_tenant(urls, kind.one, f"select id from {kind.table}") == [(1,)]
    with connect(urls.tenant) as connection:
        for _ in range(2):  # also after a transaction that had a tenant
            with connection.transaction():
                connection.execute("select set_config('app.tenant_id', %s, true)", [kind.other])
                assert connection.execute(f"select id from {kind.table}").fetchall() == [(2,)]
            assert connection.execute(f"select id from {kind.table}").fetchall() == []
    with connect(urls.owner) as owner:
        assert owner.execute(f"select id from {kind.table}").fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert into {table} values ('{other}', 3, 'x')",
        "insert into {table} values ('{other}', 2, 'x') on conflict do nothing",
        "insert into {table} values ('{one}', 1, 'x') "
        "on conflict ({column}, id) do update set {column} = '{other}', id = 4",
        "update {table} set {column} = '{other}', id = 4",
        "merge into {table} using (select 1) as one on id = 1 "
        "when matched then update set {column} = '{other}', id = 4",
        "with moved as (delete from {table} returning *) "
        "insert into {table} select '{other}', 5, note from moved",
    ],
)
def test_no_statement_writes_another_tenants_row(
    urls: DatabaseUrls, superuser: Connection, kind: Kind, statement: str
) -> None:
    before = rows(superuser, kind)
    sent = statement.format(table=kind.table, column=kind.column, one=kind.one, other=kind.other)
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(urls, kind.one, sent)
    assert rows(superuser, kind) == before


@pytest.mark.parametrize("named", [False, True], ids=["as the policy", "as the query too"])
def test_the_policys_rule_is_an_index_condition(
    urls: DatabaseUrls, superuser: Connection, kind: Kind, named: bool
) -> None:
    where = f"where {kind.column} = '{kind.one}'" if named else ""
    ((plan,),) = as_tenant(
        urls, kind.one, f"explain (format json) select * from {kind.table} {where}"
    )
    assert isinstance(plan, list)
    leaf = plan[0]["Plan"]
    while "Plans" in leaf:
        (leaf,) = leaf["Plans"]
    conditions = leaf.get("Index Cond", "") + leaf.get("Recheck Cond", "")
    assert "Index" in leaf["Node Type"], json.dumps(plan)
    assert kind.column in conditions
    assert not leaf.get("Filter") or named


UUID_SPELLINGS = [
    *(ONE.upper(), ONE.replace("-", ""), f"{{{ONE}}}", f"{{{ONE.upper()}}}", ONE.title()),
    *(ONE[:4] + "-" + ONE[4:], ONE.replace("f", "F", 1), f"urn:uuid:{ONE}", f" {ONE}", f"{ONE}\t"),
]
BIGINT_SPELLINGS = [
    *("07", "+7", " 7", "7 ", "\t7\n", "0x7", "0X7", "0b111", "0o7", "0_7", "00_7", "-7"),
    *("7.0", "7e0", "٧", "７", "7\u00a0"),
]
SPELLINGS = {"uuid": UUID_SPELLINGS, "bigint": BIGINT_SPELLINGS}


def count_of_spelling(tenant: Connection, kind: Kind, spelling: str) -> int | None:
    """The rows that a tenant of this spelling sees; None: the server reads no id in it."""
    with tenant.transaction(force_rollback=True):
        tenant.execute("select set_config('app.tenant_id', %s, true)", [spelling])
        try:
            found = tenant.execute(f"select count(*) from {kind.table}").fetchone()
        except (errors.InvalidTextRepresentation, errors.NumericValueOutOfRange):
            return None
        assert found is not None
        return int(found[0])


@pytest.mark.usefixtures("superuser")
def test_a_second_spelling_has_no_rows_and_writes_none(urls: DatabaseUrls, kind: Kind) -> None:
    """Also in a process that has not declared the type, which enters such a tenant."""
    with connect(urls.tenant) as tenant:
        assert count_of_spelling(tenant, kind, kind.one) == 1
        seen = {
            spelling: count_of_spelling(tenant, kind, spelling)
            for spelling in SPELLINGS[kind.id_type]
        }
    assert set(seen.values()) <= {0, None}, seen
    read = [spelling for spelling, count in seen.items() if count == 0]
    assert len(read) > 3
    for spelling in read:
        for statement in (
            f"insert into {kind.table} values ('{kind.one}', 9, 'x')",
            f"insert into {kind.table} values ('{kind.one}', 1, 'x') on conflict do nothing",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                as_tenant(urls, spelling, statement)
        for statement in (f"update {kind.table} set note = 'x'", f"delete from {kind.table}"):
            assert as_tenant(urls, spelling, f"{statement} returning id") == []


@pytest.mark.usefixtures("superuser")
def test_a_setting_shows_rows_only_where_it_is_the_id(urls: DatabaseUrls, kind: Kind) -> None:
    alphabet = (
        " +-_0178.xXbe٧７{}" if kind.id_type == "bigint" else f"{{}} -_urn:{ONE.upper()}{ONE}"
    )
    spellings = st.one_of(
        st.text(alphabet, max_size=6),
        st.builds(
            "{0}{2}{1}".format,
            st.text(alphabet, max_size=2),
            st.text(alphabet, max_size=2),
            st.sampled_from([kind.one, kind.one.upper(), kind.one.replace("-", "")]),
        ),
    )
    with connect(urls.tenant) as tenant:

        @settings(max_examples=150, deadline=None)
        @given(spellings)
        def check(spelling: str) -> None:
            count = count_of_spelling(tenant, kind, spelling)
            assert not count or is_canonical(spelling, kind.id_type)
            assert count is not None or not is_canonical(spelling, kind.id_type)
            assert count == 1 or spelling != kind.one

        check()


def test_a_tenant_of_another_kind_gets_an_error_and_no_rows(
    urls: DatabaseUrls, superuser: Connection, kind: Kind
) -> None:
    with pytest.raises(errors.InvalidTextRepresentation):
        as_tenant(urls, "acme", f"select * from {kind.table}")


def test_a_column_of_text_may_have_another_name(urls: DatabaseUrls) -> None:
    with connect(urls.superuser) as superuser:
        superuser.execute("insert into labels values ('acme', 1), ('ACME', 2)")
    assert as_tenant(urls, "acme", "select id from labels") == [(1,)]
    assert as_tenant(urls, "ACME", "select id from labels") == [(2,)]
    with pytest.raises(errors.InsufficientPrivilege):
        as_tenant(urls, "acme", "update labels set org = 'ACME', id = 3")


def test_a_column_of_another_type_is_refused(urls: DatabaseUrls) -> None:
    engine = create_engine(urls.owner)
    with (
        engine.begin() as owner,
        Operations.context(MigrationContext.configure(owner)),
        pytest.raises(ConfigurationError, match="not 'integer'"),
    ):
        protect("labels", column="id", type="integer")  # type: ignore[arg-type]
    engine.dispose()


# The ORM


async def test_queries_name_the_tenant_themselves(
    database: Database, urls: DatabaseUrls, kind: Kind
) -> None:
    """As a role that no policy holds, so that only the ORM's own condition limits them."""
    unlimited = Database(tenant_url=urls.superuser)
    cls, value = kind.cls, kind.value(kind.one)
    other = aliased(cls)
    with within(unlimited, kind.one):
        async with tenant_session() as session:
            assert (await session.scalars(select(cls.id).where(cls.note != ""))).all() == [1]
            assert (await session.scalars(select(other.id).where(other.note != ""))).all() == [1]
            assert await session.scalar(select(func.count()).select_from(cls)) == 1
            assert await session.get(cls, (value, 1)) is not None
            assert await session.get(cls, (kind.value(kind.other), 2)) is None
            await session.execute(update(cls).values(note="changed"))
            assert (
                await session.scalars(select(cls.note).execution_options(populate_existing=True))
            ).all() == ["changed"]
    with within(unlimited, kind.other):  # the same statements again, from SQLAlchemy's caches
        async with tenant_session() as session:
            found = (await session.scalars(select(cls))).all()
            assert [(row.id, row.note) for row in found] == [(2, "theirs")]
            assert (await session.scalars(select(other.id))).all() == [2]
    await unlimited.dispose()


async def test_a_new_row_gets_the_sessions_tenant(
    database: Database, superuser: Connection, kind: Kind
) -> None:
    value = kind.value(kind.one)
    with within(database, kind.one):
        async with tenant_session() as session:
            added = kind.cls(id=10, note="added")
            spelt = kind.cls(id=11, note="spelt", **{kind.column: kind.one})
            typed = kind.cls(id=12, note="typed", **{kind.column: value})
            session.add_all([added, spelt, typed])
            await session.flush()
            assert {getattr(row, kind.column) for row in (added, spelt, typed)} == {value}
            await session.execute(insert(kind.cls), [{"id": 13, "note": "bulk"}])
            await session.execute(
                insert(kind.cls), [{"id": 14, "note": "bulk", kind.column: value}]
            )
            upsert = postgresql.insert(kind.cls).values(id=13, note="again")
            await session.execute(
                upsert.on_conflict_do_update(
                    index_elements=[kind.column, "id"], set_={"note": upsert.excluded.note}
                )
            )
    assert rows(superuser, kind) == [
        (kind.one, 1, "mine"),
        (kind.other, 2, "theirs"),
        (kind.one, 10, "added"),
        (kind.one, 11, "spelt"),
        (kind.one, 12, "typed"),
        (kind.one, 13, "again"),
        (kind.one, 14, "bulk"),
    ]


async def test_another_tenants_row_is_refused(
    database: Database, superuser: Connection, kind: Kind
) -> None:
    before = rows(superuser, kind)
    foreign: list[object] = [kind.value(kind.other), kind.other, "07", True, 7.5, None]
    for owner in foreign:
        with within(database, kind.one):
            async with tenant_session() as session:
                if owner is not None:
                    session.add(kind.cls(id=20, note="x", **{kind.column: owner}))
                    with pytest.raises(TenantMismatch, match=f"Leave {kind.column} out"):
                        await session.flush()
                await session.rollback()
            async with tenant_session() as session:
                with pytest.raises(TenantMismatch):
                    await session.execute(
                        insert(kind.cls), [{"id": 20, "note": "x", kind.column: owner}]
                    )
                await session.rollback()
            async with tenant_session() as session:
                row = (await session.scalars(select(kind.cls))).one()
                setattr(row, kind.column, owner)
                with pytest.raises(TenantMismatch):
                    await session.flush()
                await session.rollback()
    assert rows(superuser, kind) == before


async def test_what_the_orm_does_not_see_the_policy_refuses(
    database: Database, superuser: Connection, kind: Kind
) -> None:
    before = rows(superuser, kind)
    foreign = kind.value(kind.other)
    for statement in (
        postgresql.insert(kind.cls).values({"id": 20, "note": "x", kind.column: foreign}),
        update(kind.cls).values({kind.column: foreign, "id": 21}),
        text(f"update {kind.table} set {kind.column} = '{kind.other}', id = 22"),
    ):
        with within(database, kind.one), pytest.raises(TenantMismatch, match="row-level security"):
            async with tenant_session() as session:
                await session.execute(statement)
    assert rows(superuser, kind) == before


@pytest.mark.parametrize("kind", KINDS[:1], ids=["uuid"], indirect=True)
async def test_relationships_stay_in_the_tenant(
    database: Database, urls: DatabaseUrls, superuser: Connection, kind: Kind
) -> None:
    with within(database, ONE):
        async with tenant_session() as session:
            session.add(Order(id=30, note="with lines", lines=[OrderLine(id=1), OrderLine(id=2)]))
        async with tenant_session() as session:
            assert {line.organization_id for line in await session.scalars(select(OrderLine))} == {
                UUID(ONE)
            }
    unlimited = Database(tenant_url=urls.superuser)
    with within(unlimited, ONE):
        async with tenant_session() as session:
            query = select(Order).options(selectinload(Order.lines)).where(Order.id == 30)
            assert [line.id for line in (await session.scalars(query)).one().lines] == [1, 2]
            joined = select(OrderLine.id).join(Order, Order.id == OrderLine.order_id)
            assert sorted(await session.scalars(joined)) == [1, 2]
            await session.execute(text("select 1"))
    with within(unlimited, OTHER):
        async with tenant_session() as session:
            assert (await session.scalars(joined)).all() == []
    await unlimited.dispose()


async def test_rows_are_copied_through_a_staging_table(
    database: Database, superuser: Connection, kind: Kind
) -> None:
    """COPY into a protected table is refused, so the policy is checked when they are moved."""
    with within(database, kind.one):
        async with tenant_session() as session:
            driver = await driver_of(session)
            with pytest.raises(errors.FeatureNotSupported):
                async with (
                    driver.cursor() as cursor,
                    cursor.copy(f"copy {kind.table} from stdin") as copy,
                ):
                    await copy.write_row((kind.one, 40, "copied"))
            await session.rollback()
        async with tenant_session() as session:
            driver = await driver_of(session)
            await session.execute(
                text("create temporary table staged (id bigint, note text) on commit drop")
            )
            async with driver.cursor() as cursor, cursor.copy("copy staged from stdin") as copy:
                for number in (40, 41):
                    await copy.write_row((number, "copied"))
            await session.execute(
                insert(kind.cls).from_select(
                    ["id", "note"], select(column("id"), column("note")).select_from(text("staged"))
                )
            )
            async with (
                driver.cursor() as cursor,
                cursor.copy(f"copy {kind.table} (id, note) to stdout") as out,
            ):
                seen = sorted([row async for row in out.rows()])
    assert seen == [("1", "mine"), ("40", "copied"), ("41", "copied")]
    assert [row for row in rows(superuser, kind) if row[2] == "copied"] == [
        (kind.one, 40, "copied"),
        (kind.one, 41, "copied"),
    ]


async def test_a_tenant_of_another_kind_is_refused_before_anything_is_sent(
    database: Database, kind: Kind
) -> None:
    with pytest.raises(TenantInvalid, match="as PostgreSQL writes it"), within(database, "acme"):
        pass


def test_a_class_is_made_once_for_a_column_and_a_type(kind: Kind) -> None:
    assert tenant_owned(column=kind.column, type=kind.id_type) is kind.mixin
    assert tenant_owned() is TenantOwned
    assert isinstance(kind.cls(), kind.mixin)
    assert next(column.name for column in kind.cls.__table__.primary_key) == kind.column
    with pytest.raises(ConfigurationError, match="cannot name a tenant's column"):
        tenant_owned(column="organization id", type=kind.id_type)
    other: TenantIdType = "bigint" if kind.id_type == "uuid" else "uuid"
    with pytest.raises(ConfigurationError, match="a tenant has one id"):
        tenant_owned(column="owner", type=other)


# The lint


def lint(connection: Connection, **options: Any) -> list[tuple[str, str]]:
    found = catalogue.lint(connection, environments=[*LIBRARY, TENANT_DATA], **options)
    return [(finding.check, finding.object) for finding in found]


@pytest.fixture
def faulty(urls: DatabaseUrls) -> Iterator[Connection]:
    """A superuser in a transaction that is rolled back."""
    with connect(urls.superuser) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.mark.parametrize("role", ["owner", "tenant", "superuser"])
def test_what_protect_makes_is_without_findings(urls: DatabaseUrls, role: str) -> None:
    with connect(getattr(urls, role)) as connection:
        assert lint(connection) == []


UNPROTECTED: LiteralString = """
    create table bills (
        organization_id uuid not null, id bigint, primary key (organization_id, id)
    );
    alter table bills owner to tenancy_owner;
"""
FAULTS: list[tuple[str, LiteralString, str]] = [
    ("row-security-off", "alter table orders disable row level security", "orders"),
    ("row-security-not-forced", "alter table entries no force row level security", "entries"),
    ("policy-missing", "drop policy tenant_isolation on entries", "entries"),
    ("policy-missing", "drop policy tenant_access on orders", "orders"),
    (
        "policy-altered",
        """
        alter policy tenant_isolation on orders
            using (organization_id::text = nullif(current_setting('app.tenant_id', true), ''))
        """,
        "orders",
    ),
    (
        "policy-altered",
        """
        alter policy tenant_access on orders
            using (organization_id = current_setting('app.tenant_id', true)::uuid)
        """,
        "orders",
    ),
    (
        "policy-altered",
        """
        alter policy tenant_access on entries
            using (id = nullif(current_setting('app.tenant_id', true), '')::bigint)
        """,
        "entries",
    ),
    (
        "policy-altered",
        """
        alter policy tenant_isolation on entries
            using (account_id = nullif(current_setting('app.tenant_id', true), '')::numeric)
        """,
        "entries",
    ),
    (
        "policy-altered",
        """
        alter policy tenant_access on labels
            using (org = 'x' or org = nullif(current_setting('app.tenant_id', true), ''))
        """,
        "labels",
    ),
    ("policy-extra", "create policy wide on orders using (true)", "orders"),
    ("primary-key", "alter table entries drop constraint pk_entries", "entries"),
    ("tenant-id-nullable", "create table n (organization_id uuid)", "n"),
    ("unique-without-tenant", "create unique index u on entries (id)", "entries"),
    ("index-order", "create index i on orders (note, organization_id)", "orders"),
    (
        "foreign-key",
        """
        alter table order_lines add column other uuid;
        alter table order_lines add constraint f
            foreign key (other, order_id) references orders (organization_id, id)
        """,
        "order_lines",
    ),
    ("row-security-off", UNPROTECTED, "bills"),
    (
        "platform-role-on-tenants-rows",
        "grant select on orders to tenancy_platform",
        "orders",
    ),
    (
        "trigger",
        """
        create function move() returns trigger language plpgsql
            as 'begin new.account_id = 8; return new; end';
        create trigger move before insert on entries for each row execute function move()
        """,
        "entries",
    ),
]


@pytest.mark.parametrize(("check", "fault", "name"), FAULTS, ids=lambda value: value[:60])
def test_a_fault_is_found(faulty: Connection, check: str, fault: LiteralString, name: str) -> None:
    """In a process that has the classes."""
    with own_tenant_types():
        module._made["organization_id", "uuid"] = OrganizationOwned
        faulty.execute(fault)
        assert (check, name) in lint(faulty)


def test_a_wrong_column_is_found_where_the_class_is_known(faulty: Connection) -> None:
    """A policy says which column is the tenant's; a class knows better."""
    faulty.execute("""
        alter table orders add column customer_id uuid;
        alter policy tenant_isolation on orders
            using (customer_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
            with check (customer_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
        alter policy tenant_access on orders
            using (customer_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
            with check (customer_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    """)
    assert ("policy-altered", "orders") in lint(faulty)


def test_a_table_without_a_policy_is_found_by_the_columns_name(faulty: Connection) -> None:
    faulty.execute("""
        create table bills (workspace uuid not null, id bigint, primary key (workspace, id))
    """)
    assert lint(faulty) == []
    assert ("row-security-off", "bills") in lint(faulty, columns=["workspace"])


def test_a_table_that_a_runtime_role_uses_is_found_by_other_tables_policies(
    faulty: Connection,
) -> None:
    faulty.execute("create table bills (org text not null, id int, primary key (org, id))")
    assert lint(faulty) == []
    faulty.execute("grant select on bills to tenancy_tenant")
    assert ("row-security-off", "bills") in lint(faulty)


EARLIER = "nullif(current_setting('app.tenant_id', true), '')"
"""The current tenant's id in a policy of an earlier release, before its cast."""


def make_earlier(connection: Connection, table: str, column: str, type: TenantIdType) -> None:
    """Gives a table the policies of an earlier release."""
    rule = f'"{column}" = {EARLIER}::{type}'
    for policy in ("tenant_isolation", "tenant_access"):
        connection.execute(
            f"alter policy {policy} on {table} using ({rule}) with check ({rule})".encode()
        )


def protect_on(connection: Connection, table: str, **arguments: Any) -> None:
    """Runs `protect()` on a connection of the driver."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: connection)
    # The transaction is the test's, and SQLAlchemy would end it.
    engine.dialect.do_rollback = lambda dbapi_connection: None  # type: ignore[method-assign]
    with engine.connect() as sql, Operations.context(MigrationContext.configure(sql)):
        protect(table, **arguments)


def test_a_policy_of_an_earlier_release_is_found_and_replaced(
    faulty: Connection, kind: Kind
) -> None:
    faulty.execute(f"revoke delete on {kind.table} from tenancy_tenant".encode())
    make_earlier(faulty, kind.table, kind.column, kind.id_type)
    faulty.execute(f"insert into {kind.table} values (%s, 1, 'mine')".encode(), [kind.one])
    second = kind.one.upper() if kind.id_type == "uuid" else f"0{kind.one}"

    def seen() -> int:
        with faulty.transaction(force_rollback=True):
            faulty.execute("set local role tenancy_tenant")
            faulty.execute("select set_config('app.tenant_id', %s, true)", [second])
            [(count,)] = faulty.execute(f"select count(*) from {kind.table}".encode()).fetchall()
        return int(count)

    def findings() -> list[catalogue.Finding]:
        with own_tenant_types():  # the database has tables of both types
            return catalogue.lint(faulty, environments=[*LIBRARY, TENANT_DATA])

    assert seen() == 1
    found = findings()
    assert [each.check for each in found] == ["policy-spelling"] * 2
    call = f"protect('{kind.table}', column='{kind.column}', type='{kind.id_type}')"
    assert all(call in each.message and not each.open for each in found)
    for _ in range(2):
        protect_on(faulty, kind.table, column=kind.column, type=kind.id_type)
    assert findings() == []
    assert seen() == 0
    rights = "select has_table_privilege('tenancy_tenant', %s, 'DELETE')"
    assert faulty.execute(rights, [kind.table]).fetchone() == (False,)


def test_the_statements_for_other_tools_can_be_repeated_in_any_schema(faulty: Connection) -> None:
    faulty.execute("""
        create schema "App 1" authorization tenancy_owner;
        create table "App 1"."Bills" ("Owner" bigint not null, id int, primary key ("Owner", id));
        alter table "App 1"."Bills" owner to tenancy_owner
    """)
    for _ in range(2):
        faulty.execute(protect_sql("Bills", column="Owner", type="bigint", schema="App 1").encode())
    faulty.execute('grant usage on schema "App 1" to tenancy_tenant')
    assert lint(faulty) == []
    make_earlier(faulty, '"App 1"."Bills"', "Owner", "bigint")
    [message] = {
        each.message.partition("migration")[2]
        for each in catalogue.lint(faulty, environments=[*LIBRARY, TENANT_DATA])
    }
    assert "protect('Bills', column='Owner', type='bigint', schema='App 1') again" in message
    protect_on(faulty, "Bills", column="Owner", type="bigint", schema="App 1")
    assert lint(faulty) == []


SOUND_TYPES: list[tuple[str, TenantIdType]] = [
    *(("text", "text"), ("varchar", "text"), ("varchar(63)", "text"), ("word", "text")),
    *(("uuid", "uuid"), ("organization", "uuid"), ("department", "uuid")),
    *(("bigint", "bigint"), ("int", "bigint"), ("smallint", "bigint"), ("small", "bigint")),
    ("counted", "bigint"),
]
DOMAINS: LiteralString = """
    create domain word as varchar(20) check (value <> '');
    create domain organization as uuid;
    create domain department as organization not null;
    create domain small as smallint;
    create domain counted as int check (value > 0)
"""


def make_table(connection: Connection, type: str, *more: str) -> None:
    columns = ", ".join([f'"Owner" {type}', "id int", *more])
    connection.execute(f'create table t ({columns}, primary key ("Owner", id))'.encode())
    connection.execute("alter table t owner to tenancy_owner")


@pytest.mark.parametrize(("column_type", "id_type"), SOUND_TYPES)
def test_a_column_below_a_domain_or_a_shorter_one_is_protected(
    faulty: Connection, column_type: str, id_type: TenantIdType
) -> None:
    faulty.execute(DOMAINS)
    make_table(faulty, column_type)
    protect_on(faulty, "t", column="Owner", type=id_type)
    assert lint(faulty) == []
    one, other = {"uuid": (ONE, OTHER), "bigint": ("7", "8"), "text": ("a", "A")}[id_type]
    faulty.execute("insert into t values (%s, 1), (%s, 2)", [one, other])
    faulty.execute("set local role tenancy_tenant")
    faulty.execute("select set_config('app.tenant_id', %s, true)", [one])
    assert faulty.execute("select id from t").fetchall() == [(1,)]
    with pytest.raises(errors.InsufficientPrivilege), faulty.transaction():
        faulty.execute('update t set "Owner" = %s, id = 3', [other])


@pytest.mark.parametrize(
    ("column_type", "id_type"),
    [
        *(("char(5)", "text"), ("fuzzy", "text"), ("numeric", "bigint"), ("real", "bigint")),
        *(("name", "text"), ("date", "text"), ("text[]", "text"), ("bytea", "text")),
    ],
)
def test_a_column_that_holds_no_ids_is_refused_and_found(
    faulty: Connection, column_type: str, id_type: TenantIdType
) -> None:
    faulty.execute("create domain fuzzy as char(9)")
    make_table(faulty, column_type)
    with pytest.raises(ConfigurationError, match="can hold no tenant ids"):
        protect_on(faulty, "t", column="Owner", type=id_type)
    assert ("tenant-id-type", "t") in lint(faulty, columns=["Owner"])


# The type of the extension, which not every PostgreSQL has, without its operators.
CITEXT = (
    "create type citext",
    "create function citextin(cstring) returns citext immutable strict language internal as "
    "'textin'",
    "create function citextout(citext) returns cstring immutable strict language internal as "
    "'textout'",
    "create type citext (input = citextin, output = citextout, like = text, collatable = true)",
    "create cast (citext as text) without function as implicit",
)


def test_a_column_without_case_is_refused_and_found(faulty: Connection) -> None:
    for statement in CITEXT:
        faulty.execute(statement.encode())
    make_table(faulty, "citext")
    with pytest.raises(ConfigurationError, match="has the type citext, which can hold no"):
        protect_on(faulty, "t", column="Owner")
    for statement in protect_statements("t", column="Owner"):
        faulty.execute(statement.encode())
    found = catalogue.lint(faulty, environments=[*LIBRARY, TENANT_DATA])
    [finding] = [each for each in found if each.check == "tenant-id-type"]
    assert "the type citext, by which ids that differ only by case are one key" in finding.message


@pytest.mark.parametrize(
    ("table", "arguments", "sentence"),
    [
        ("orders", {"column": "organization_id"}, 'Call it with type="uuid"'),
        ("entries", {"column": "account_id", "type": "uuid"}, 'Call it with type="bigint"'),
        ("labels", {"column": "org", "type": "bigint"}, 'Call it with type="text"'),
        ("orders", {}, 'no table "orders" with a column "tenant_id"'),
        ("nothing", {}, 'no table "nothing" with a column'),
        ("orders", {"schema": "tenancy"}, 'no table "tenancy"."orders" with'),
        ("ORDERS", {"column": "organization_id", "type": "uuid"}, 'no table "ORDERS" with'),
        ("seen", {"column": "org"}, '"seen" is not a table'),
    ],
)
def test_what_cannot_be_protected_is_said(
    faulty: Connection, table: str, arguments: dict[str, Any], sentence: str
) -> None:
    faulty.execute("create view seen with (security_invoker) as table labels")
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        protect_on(faulty, table, **arguments)


def test_a_generated_column_and_partitions_are_limited_as_any_other(faulty: Connection) -> None:
    faulty.execute("""
        create table t (
            owner text not null, tenant_id text generated always as (owner || '_x') stored not null,
            id int, primary key (tenant_id, id)
        );
        create table parts (tenant_id bigint, id int, primary key (tenant_id, id))
            partition by list (tenant_id);
        create table parts_7 partition of parts for values in (7);
        create table parts_others partition of parts default;
        alter table t owner to tenancy_owner;
        alter table parts owner to tenancy_owner;
        alter table parts_7 owner to tenancy_owner;
        alter table parts_others owner to tenancy_owner
    """)
    protect_on(faulty, "t")
    protect_on(faulty, "parts", type="bigint")
    assert lint(faulty) == []
    faulty.execute("insert into parts values (7, 1), (8, 2)")
    faulty.execute("set local role tenancy_tenant")
    for tenant, seen in (("7", [(1,)]), ("07", []), ("8", [(2,)])):
        faulty.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        assert faulty.execute("select id from parts").fetchall() == seen
        [(plan,)] = faulty.execute("explain (format json) select id from parts").fetchall()
        assert plan[0]["Plan"].get("Subplans Removed", 0) > 0  # before any is read
    faulty.execute("select set_config('app.tenant_id', 'a_x', true)")
    faulty.execute("insert into t (owner, id) values ('a', 1)")
    with pytest.raises(errors.InsufficientPrivilege), faulty.transaction():
        faulty.execute("insert into t (owner, id) values ('b', 1)")
    with pytest.raises(errors.InsufficientPrivilege), faulty.transaction():
        faulty.execute("update t set owner = 'b'")
    assert faulty.execute("select tenant_id from t").fetchall() == [("a_x",)]


def test_a_type_that_the_application_has_not_declared_is_found(urls: DatabaseUrls) -> None:
    def undeclared(**options: Any) -> dict[str, str]:
        with own_tenant_types(*options.pop("process", ())), connect(urls.tenant) as tenant:
            found = catalogue.lint(tenant, environments=[*LIBRARY, TENANT_DATA], **options)
        return {each.object: each.message for each in found}

    assert undeclared() == {}  # a process that may not import the application
    assert undeclared(declared="text").keys() == {"orders", "order_lines", "entries"}
    assert "Call declare_tenant_ids('bigint')" in undeclared(declared="text")["entries"]
    assert "Make the column uuid or text" in undeclared(process=["uuid"])["entries"]
    assert undeclared(process=["uuid"]) == undeclared(declared="uuid")
    assert undeclared(process=["bigint"]).keys() == {"orders", "order_lines"}
