"""The leak check finds nothing in sound tables, and each hole that is made in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.testing import Leak, assert_no_leaks, check_leaks
from temporal_tenancy.testing.leaks._report import told
from tests.library.testing.sample import HOLES, SHOP, TABLE, Shop
from tests.library.testing.schemas import ALONE, COLUMNS, FEATURES, MORE_HOLES, OF_NOBODY, UNUSUAL


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
    told_otherwise = {"currencies: no policy": "one list for all"}
    assert [str(leak) for leak in leaks(urls, skip=told_otherwise, **options)] == []


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
    unchecked = {leak.object: leak.statement for leak in of_holes if leak.kind == "unchecked"}
    assert unchecked == {"holes.log_of_all": "no policy"}  # a log that names no tenant


def hole_of(name: str) -> str:
    return MORE_HOLES.get(name, ("",))[0].replace("{t}", f"holes.{name}")


def build_schema(
    superuser: psycopg.Connection[Any], sound: list[str], holes: dict[str, list[str]]
) -> None:
    """Makes a sound table for each feature, and a table for each hole, with more features."""
    superuser.execute("drop schema if exists shop cascade; drop schema if exists holes cascade")
    superuser.execute("create schema holes; grant usage on schema holes to tenancy_tenant")
    for name, features in [*((f"sound_{each}", [each]) for each in sound), *holes.items()]:
        superuser.execute(TABLE.format(name=name).encode())
        for feature in features if name not in ALONE else ():
            text = FEATURES[feature].replace("{t}", f"holes.{name}").replace("{n}", name)
            superuser.execute(text.replace("{{", "{").replace("}}", "}").encode())
        superuser.execute(hole_of(name).encode())


def is_of_a_hole(leak: Leak) -> bool:
    return any(not part.startswith("holes.sound_") for part in leak.object.split(" and "))


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    sound=st.lists(st.sampled_from(sorted(FEATURES)), min_size=2, max_size=6, unique=True),
    holes=st.dictionaries(
        st.sampled_from(sorted(MORE_HOLES)),
        st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3, unique=True),
        max_size=3,
    ),
)
@example(sound=["types"], holes={"inherited_openly": ["types"]})
def test_holes_are_found_among_whatever_strangers_have(
    urls: DatabaseUrls,
    superuser: psycopg.Connection[Any],
    sound: list[str],
    holes: dict[str, list[str]],
) -> None:
    build_schema(superuser, sound, holes)
    found = leaks(urls)
    places = {leak.object for leak in found if leak.kind == "leak"}
    assert {MORE_HOLES[name][1].format(t=f"holes.{name}") for name in holes} <= places
    assert [str(leak) for leak in found if not is_of_a_hole(leak)] == []


@pytest.mark.parametrize("part", range(2))
def test_no_feature_of_a_sound_schema_is_a_finding(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], part: int
) -> None:
    build_schema(superuser, sorted(FEATURES)[part::2], {})
    assert told(leaks(urls)) == "0 findings, 0 causes:"


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


@pytest.mark.parametrize("name", OF_NOBODY)
def test_a_table_of_nobody_that_no_policy_limits_is_a_finding_unless_told_otherwise(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], name: str
) -> None:
    change, is_unlimited = OF_NOBODY[name]
    # A second protected table: one name among several policies is no usual name.
    small(superuser, TABLE.format(name="more"), UNUSUAL, change)
    found = leaks(urls)
    assert [(leak.kind, leak.object, leak.statement) for leak in found] == (
        [("unchecked", "holes.archive", "no policy")] if is_unlimited else []
    )
    if is_unlimited:
        assert re.search("may (read|change) it, and no policy limits it", found[0].seen)
        assert leaks(urls, skip={"archive: no policy": "a list for all"}) == []
        assert leaks(urls, skip={"archive": "a list for all"}) == []
        assert leaks(urls, tenant_columns={"archive": "org_id"})


# With the tables that show what is behind them; `{behind}` is a table that the role cannot read.
SHOWN = {
    "a view": ("holes.shown", "create view holes.shown as select * from {behind}"),
    "a view of a view": (
        "holes.shown",
        "create view holes.under as select * from {behind}; "
        "create view holes.shown as select * from holes.under",
    ),
    "a materialized view": (
        "holes.shown",
        "create materialized view holes.shown as select * from {behind}",
    ),
    "a function": (
        "holes.shown()",
        "create function holes.shown() returns setof text language sql security definer "
        "as 'select note from {behind}'",
    ),
    "a function that reads a view": (
        "holes.shown()",
        "create view holes.under as select * from {behind}; "
        "create function holes.shown() returns setof text language plpgsql security definer "
        "as 'begin return query select note from holes.under; end'",
    ),
    "a function with a parsed body": (
        "holes.shown()",
        "create function holes.shown() returns bigint language sql security definer "
        "begin atomic select count(*) from {behind}; end",
    ),
}


@pytest.mark.parametrize("behind", ["holes.secret", "hidden.secret"])
@pytest.mark.parametrize("name", SHOWN)
def test_what_shows_a_table_of_nobody_that_the_role_cannot_read_says_that_it_is_unchecked(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], name: str, behind: str
) -> None:
    place, made = SHOWN[name]
    small(
        superuser,
        "drop schema if exists hidden cascade; create schema hidden",
        f"create table {behind} (org text, note text)",
        made.format(behind=behind),
        "" if "(" in place else f"grant select on {place} to tenancy_tenant",
    )
    found = [leak for leak in leaks(urls) if leak.object == place]
    assert [(leak.kind, leak.statement) for leak in found] == [("unchecked", "no policy")]
    assert f"shows the tenant role rows of {behind}, with the rights of another" in found[0].seen
    assert leaks(urls, skip={"secret": "a list for all"}) == []
    superuser.execute("drop schema hidden cascade")


def test_a_view_with_the_rights_of_who_reads_it_shows_nothing_more(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "create table holes.secret (org text, note text)",
        "create view holes.shown with (security_invoker) as select * from holes.secret",
        "grant select on holes.shown to tenancy_tenant",
    )
    assert leaks(urls) == []


def test_rows_are_put_behind_a_view_once_the_table_has_a_tenants_column(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "create table holes.secret (org text, note text)",
        "create view holes.shown as select * from holes.secret",
        "grant select on holes.shown to tenancy_tenant",
    )
    found = leaks(urls, tenant_columns={"secret": "org"})
    assert {(leak.kind, leak.object) for leak in found} == {("leak", "holes.shown")}


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
    shown = {str(entry.path) for entry in caught.traceback.filter(caught)}
    assert shown == {__file__}  # its own frame would push the findings down
    assert str(caught.value).splitlines()[:4] == [
        "2 findings, 1 cause:",
        "- leak: the view reads with the rights of its owner postgres: "
        'holes."all\\x1b[2J" (2 statements)',
        '    holes."all\\x1b[2J": select from a view: '
        "6 rows beside another tenant's rows, and 3 without",
        '        select * from holes."all\\x1b[2J"',
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


def test_one_cause_in_many_tables_is_told_once(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser, "alter policy isolation on holes.notes using (note is null or true)")
    for number in range(3):
        superuser.execute(TABLE.format(name=f"more_{number}").encode())
        superuser.execute(f"alter table holes.more_{number} disable row level security".encode())
    lines = told(leaks(urls)).splitlines()
    causes = [line for line in lines if line.startswith("- ")]
    assert lines[0].endswith(f", {len(causes)} causes:")
    assert [cause.split(" (")[0] for cause in causes if "more_" in cause] == [
        "- leak: row-level security is not enabled: holes.more_0"
    ]


def test_an_index_without_the_tenant_is_one_cause_whatever_statement_meets_it(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(superuser, "create unique index of_all on holes.notes (number)")
    cause = "the unique index of_all does not contain the tenant's column"
    found = leaks(urls)
    assert {leak.cause for leak in found} == {cause}
    assert len({leak.statement for leak in found}) > 1
    assert told(found).splitlines()[0].endswith(", 1 cause:")


@pytest.mark.parametrize("is_invoker", [False, True])
@pytest.mark.parametrize("is_forced", [False, True])
def test_a_view_is_judged_by_what_postgresql_shows_through_it(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], is_invoker: bool, is_forced: bool
) -> None:
    small(
        superuser,
        "alter policy isolation on holes.notes to public",
        f"alter table holes.notes {'' if is_forced else 'no '}force row level security",
        f"create view holes.mine with (security_invoker = {is_invoker}) as "
        "select id, note from holes.notes",
        "grant select, update, delete on holes.mine to tenancy_tenant",
        "alter table holes.notes owner to tenancy_owner",
        "alter view holes.mine owner to tenancy_owner",
        "grant usage on schema holes to tenancy_owner",
    )
    found = {(leak.kind, leak.statement) for leak in leaks(urls) if leak.object == "holes.mine"}
    if is_invoker or is_forced:
        assert found == set()
    else:
        assert {("leak", "select from a view"), ("leak", "delete from a view")} <= found


def test_a_view_whose_owner_no_policy_lets_through_shows_a_tenant_nothing(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "create view holes.mine as select id, note from holes.notes",
        "grant select on holes.mine to tenancy_tenant",
        "alter table holes.notes owner to tenancy_owner",
        "alter view holes.mine owner to tenancy_owner",
        "grant usage on schema holes to tenancy_owner",
    )
    [finding] = leaks(urls)
    assert (finding.kind, finding.object) == ("own", "holes.mine")
    assert "shows none of the 3 rows" in finding.seen


def test_sequences_stay_where_they_were(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "create sequence holes.used increment 5",
        "select nextval('holes.used')",
        "create sequence holes.unused",
        "grant update, usage on all sequences in schema holes to tenancy_tenant",
        "alter table holes.notes alter number set default nextval('holes.used')",
    )
    places = "select schemaname, sequencename, last_value from pg_sequences order by 1, 2"
    before = superuser.execute(places.encode()).fetchall()
    assert [leak.statement for leak in leaks(urls)] == ["setval", "setval", "setval"]
    assert superuser.execute(places.encode()).fetchall() == before
    assert superuser.execute("select nextval('holes.used')").fetchone() == (6,)


def test_a_sequence_in_use_is_said_and_not_waited_for(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(superuser, "create sequence holes.busy")
    monkeypatch.setattr("temporal_tenancy.testing.leaks.check.LOCK_TIMEOUT", "50ms")
    with connect(urls.superuser) as other, other.transaction():
        other.execute("select nextval('holes.busy')")
        with pytest.raises(ConfigurationError, match="another connection is using a sequence"):
            leaks(urls)


def test_a_foreign_table_is_said_to_be_unchecked(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    small(
        superuser,
        "create foreign data wrapper nowhere",
        "create server elsewhere foreign data wrapper nowhere",
        "create foreign table holes.far (tenant_id text, note text) server elsewhere",
        "grant select on holes.far to tenancy_tenant",
    )
    try:
        found = leaks(urls)
    finally:
        superuser.execute("drop foreign data wrapper nowhere cascade")
    assert [(leak.kind, leak.object) for leak in found] == [("unchecked", "holes.far")]


def test_short_ids_and_ids_of_a_certain_form_fit_the_tables(
    urls: DatabaseUrls, superuser: psycopg.Connection[Any]
) -> None:
    narrow = TABLE.format(name="narrow").replace("tenant_id text", "tenant_id varchar(9)")
    small(superuser, "drop table holes.notes", narrow)
    assert leaks(urls) == []
    superuser.execute("alter table holes.narrow add check (tenant_id in ('xx', 'yy'))")
    assert {leak.kind for leak in leaks(urls)} == {"unchecked"}
    assert leaks(urls, tenants=("xx", "yy")) == []
