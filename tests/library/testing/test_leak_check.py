"""The leak check finds nothing in sound tables, and each hole that is made in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.testing import Leak, assert_no_leaks, check_leaks
from tests.library.testing.sample import HOLES, SHOP, TABLE, Shop


@pytest.fixture(scope="module")
def urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A stranger's database: only the runtime roles are the library's, which the template made."""
    yield (urls := postgres.create_database("shop"))
    with connect(urls.superuser) as superuser:
        superuser.execute("drop schema if exists shop cascade; drop schema if exists holes cascade")
    postgres.drop_database("shop")


@pytest.fixture(scope="module")
def superuser(urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with connect(urls.superuser) as superuser:
        superuser.execute("grant connect on database shop to tenancy_tenant")
        yield superuser


def build(superuser: psycopg.Connection[Any], column: str, type: str) -> None:
    superuser.execute(SHOP.format(column=column, type=type).encode())


def leaks(urls: DatabaseUrls, **options: Any) -> list[Leak]:
    return check_leaks(superuser_url=urls.superuser, tenant_url=urls.tenant, **options)


@pytest.mark.parametrize(
    ("column", "type", "options"),
    [
        ("tenant_id", "text", {}),
        ("organization_id", "uuid", {}),
        ("organization_id", "bigint", {"models": [Shop], "tenant_column": "organization_id"}),
    ],
)
def test_sound_tables_have_no_findings(
    urls: DatabaseUrls,
    superuser: psycopg.Connection[Any],
    column: str,
    type: str,
    options: dict[str, Any],
) -> None:
    build(superuser, column, type)
    assert [str(leak) for leak in leaks(urls, **options)] == []


@pytest.fixture(scope="module")
def of_holes(urls: DatabaseUrls, superuser: psycopg.Connection[Any]) -> list[Leak]:
    """The findings in a schema with one table for each hole, and one without any."""
    superuser.execute("drop schema if exists shop cascade")
    superuser.execute("create schema holes; grant usage on schema holes to tenancy_tenant")
    superuser.execute(TABLE.format(name="sound").encode())
    for name, (hole, *_) in HOLES.items():
        superuser.execute(TABLE.format(name=name).encode())
        superuser.execute(hole.format(t=f"holes.{name}").encode())
    try:
        return leaks(urls)
    finally:
        superuser.execute("drop schema holes cascade")


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found(of_holes: list[Leak], name: str) -> None:
    _, place, kind, seen = HOLES[name]
    found = [leak for leak in of_holes if leak.object == place.format(t=f"holes.{name}")]
    assert any(leak.statement == kind and seen in leak.seen for leak in found), found


def test_a_hole_is_found_only_where_it_is(of_holes: list[Leak]) -> None:
    assert [leak for leak in of_holes if leak.object == "holes.sound"] == []
    assert [str(leak) for leak in of_holes if leak.kind == "unchecked"] == []


def small(superuser: psycopg.Connection[Any], *more: str) -> None:
    """Makes the database of one sound table, and runs SQL in it."""
    superuser.execute("drop schema if exists shop cascade; drop schema if exists holes cascade")
    superuser.execute("create schema holes; grant usage on schema holes to tenancy_tenant")
    superuser.execute(TABLE.format(name="notes").encode())
    for statement in more:
        superuser.execute(statement.encode())


ROLES = {
    "bypassrls": ("alter role tenancy_tenant bypassrls", "alter role tenancy_tenant nobypassrls"),
    "superuser": ("alter role tenancy_tenant superuser", "alter role tenancy_tenant nosuperuser"),
    "another role": (
        "create role mighty bypassrls; grant mighty to tenancy_tenant; "
        "grant usage on schema holes to mighty; grant all on holes.notes to mighty; "
        "alter role tenancy_tenant in database shop set role = mighty",
        "alter role tenancy_tenant in database shop reset role; drop owned by mighty; "
        "drop role mighty",
    ),
    "a tenant at login": (
        "alter role tenancy_tenant in database shop set app.tenant_id = 'acme'",
        "alter role tenancy_tenant in database shop reset app.tenant_id",
    ),
}


@pytest.mark.parametrize("name", ROLES)
def test_a_role_that_sees_more_is_found(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], name: str
) -> None:
    change, back = ROLES[name]
    small(superuser, change)
    try:
        found = leaks(urls)
    finally:
        superuser.execute(back.encode())
    if name == "a tenant at login":
        assert [leak.object for leak in found] == ["the login"]
    else:
        assert {"select", "delete all", "insert for the other"} <= {
            leak.statement for leak in found if leak.object == "holes.notes"
        }


def test_what_is_there_already_is_found_after_a_login(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "insert into holes.notes (tenant_id, reference) values ('acme', 'of a customer')",
        "create policy shared on holes.notes for select to tenancy_tenant "
        "using (tenant_id = 'acme')",
    )
    seen = {(leak.statement, leak.seen) for leak in leaks(urls)}
    assert ("select after a login", "it saw 1 row with a tenant that has none set") in seen
    assert ("select", "the tenant sees 4 rows and has 3") in seen
    assert "of a customer" not in str(seen)


def test_rows_that_a_policy_hides_from_their_tenant_are_found(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser, "alter policy isolation on holes.notes using (false) with check (false)")
    found = {leak.statement: (leak.kind, leak.seen) for leak in leaks(urls)}
    assert found["select"] == ("own", "the tenant sees 0 of its 3 rows")
    assert found["insert"] == ("own", "a policy refused the tenant's own row")
    assert found["update"][0] == "own"


def md5_of(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


UNFILLABLE = (
    "alter table holes.notes add code text not null, "
    "add constraint code check (md5(code) like 'abc%')"
)


def test_a_table_that_got_no_rows_is_reported_until_somebody_fills_it(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser, TABLE.format(name="filled"), UNFILLABLE)
    [finding] = leaks(urls)
    assert (finding.kind, finding.object, finding.statement) == ("unchecked", "holes.notes", "all")
    assert 'violates check constraint "code"' in finding.seen
    assert leaks(urls, skip={"notes": "filled by hand"}) == []

    codes = (text for text in map(str, range(100_000)) if md5_of(text).startswith("abc"))
    assert leaks(urls, rows={"notes": lambda tenant, number: {"code": next(codes)}}) == []


def test_a_model_without_a_table_is_reported(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser)
    found = leaks(urls, models=[Shop])
    assert {leak.object for leak in found} == {"shop.customers", "shop.orders"}
    assert {leak.kind for leak in found} == {"unchecked"}


def test_the_assertion_says_where_what_was_seen_and_leaves_no_trace(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser)
    assert_no_leaks(superuser_url=urls.superuser, tenant_url=urls.tenant)
    small(
        superuser,
        'create view holes."all\x1b[2J" as select id from holes.notes',
        'grant select on holes."all\x1b[2J" to tenancy_tenant',
    )
    with pytest.raises(AssertionError) as caught:
        assert_no_leaks(superuser_url=urls.superuser, tenant_url=urls.tenant)
    assert str(caught.value).splitlines()[:3] == [
        "2 findings in 1 table, view or function.",
        '- holes."all\\x1b[2J": select from a view: '
        "6 rows beside another tenant's rows, and 3 without",
        '    select * from holes."all\\x1b[2J"',
    ]
    assert superuser.execute("select count(*) from holes.notes").fetchone() == (0,)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"skip": {"notes": " "}}, "the leak check skips 'notes' without a reason. Give one."),
        ({"rows": {"nots": dict}}, "the leak check has no table nots."),
        ({"tenant_columns": {"orders": "id"}}, "the leak check has no table orders."),
        ({"models": [int]}, "int is no mapped class and no declarative base."),
        ({"tenant_url": "platform"}, "two URLs are of different databases"),
        ({"superuser_url": "owner"}, "the leak check needs a superuser"),
        ({"tenant_url": "sqlite://"}, "a database URL has the form"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_sentence(
    urls: DatabaseUrls,
    database_urls: DatabaseUrls,
    superuser: psycopg.Connection[Any],
    options: dict[str, Any],
    sentence: str,
) -> None:
    small(superuser)
    named = {"platform": database_urls.tenant, "owner": urls.owner}
    given = {name: named.get(str(value), value) for name, value in options.items()}
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        check_leaks(**{"superuser_url": urls.superuser, "tenant_url": urls.tenant, **given})


def test_a_database_without_tenants_tables_is_refused(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute("drop schema if exists shop cascade; drop schema if exists holes cascade")
    with pytest.raises(ConfigurationError, match="no table has a column 'tenant_id'"):
        leaks(urls)
