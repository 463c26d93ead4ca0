"""A tenant directory over the application's own tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import (
    CachedDirectory,
    ConfigurationError,
    Database,
    Plan,
    ScopeMissing,
    SqlTenantDirectory,
    TenantScope,
    TenantStatus,
    enter,
)
from temporal_tenancy.core.directory import TenantDirectory, pages
from temporal_tenancy.postgres import (
    DirectoryAmbiguous,
    DirectoryUnreadable,
    connect,
    sql_directory,
)

UUIDS = [f"0192f0c1-2b4d-7e8f-9abc-def01234567{digit}" for digit in "0a5f"]
TABLE = """
    create table organizations (
        id {type} primary key, name text, state text, since timestamptz, plan text,
        features text[], zone text, settings jsonb, trial_ends timestamptz
    )
"""
QUERY = """
    select id, name, state as status, since as status_since, plan, features, zone as time_zone,
           settings, trial_ends as trial_ends_at
    from organizations where name is distinct from ':none' and '100%' = '100%'::text;
"""

Fill = Callable[..., None]


@pytest.fixture
def fill(database_urls: DatabaseUrls) -> Fill:
    """Makes the application's table, readable for the platform, with some rows."""

    def make(*rows: str, type: str = "text") -> None:
        with connect(database_urls.owner) as owner:
            owner.execute(TABLE.format(type=type).encode())
            owner.execute(b"grant select on organizations to tenancy_platform")
            for row in rows:
                owner.execute(f"insert into organizations values {row}".encode())

    return make


async def test_a_row_is_a_tenant_with_its_plan(database: Database, fill: Fill) -> None:
    fill(
        "('acme', 'Acme Inc.', 'trial', '2024-05-06Z', 'paid', array['reports'], 'Asia/Tokyo', "
        "'{\"vat\": 7}', '2024-06-06Z')",
        "('bare')",
    )
    paid = Plan(id="paid", fairness_weight=2, features=frozenset({"search"}))
    directory = SqlTenantDirectory(database, QUERY, plans=[paid])
    acme, bare = await directory.find("acme"), await directory.find("bare")
    assert acme is not None
    assert bare is not None
    assert (acme.name, acme.status, acme.plan, acme.time_zone, acme.settings) == (
        *("Acme Inc.", TenantStatus.TRIAL, paid, "Asia/Tokyo", {"vat": 7}),
    )
    assert acme.status_since == datetime(2024, 5, 6, tzinfo=UTC)
    assert acme.trial_ends_at == datetime(2024, 6, 6, tzinfo=UTC)
    assert acme.has_feature("reports")
    assert acme.has_feature("search")
    assert (bare.name, bare.status, bare.plan.id, bare.time_zone) == (
        *("bare", TenantStatus.ACTIVE, "standard", "UTC"),
    )
    assert await directory.find("initech") is None
    assert await directory.find("ACME") is None


@pytest.mark.parametrize(
    ("type", "ids", "strange"),
    [
        ("text", ["A1", "Z", "a-b", "b_c"], "'; drop table organizations"),
        ("uuid", sorted(UUIDS), UUIDS[1].upper()),
        ("bigint", ["7", "42", "1000", "9223372036854775807"], "07"),
    ],
)
async def test_every_page_comes_once_and_ids_of_another_spelling_are_unknown(
    database: Database, fill: Fill, type: str, ids: list[str], strange: str
) -> None:
    fill(*(f"('{each}')" for each in reversed(ids)), type=type)
    query = "select id from organizations"
    directory: TenantDirectory = SqlTenantDirectory(database, query, type=type)  # type: ignore[arg-type]
    found, after = [], None
    while page := await directory.page(after=after, limit=3):
        assert len(page) <= 3
        found += [tenant.id for tenant in page]
        after = page[-1].id
    assert found == ids
    assert {t.id for t in await directory.find_many([*ids, strange, "none"])} == set(ids)
    assert await directory.find(strange) is None
    assert await directory.find_many(["", "a\0b", "é" * 70, "platform"]) == []
    assert (await CachedDirectory(directory).find(ids[0])) is not None


async def test_pages_are_of_the_statuses_and_zones(database: Database, fill: Fill) -> None:
    fill(
        "('a', null, 'deleted')",
        "('b', null, null, null, null, null, 'Asia/Tokyo')",
        "('c', null, 'suspended')",
    )
    directory = SqlTenantDirectory(database, QUERY)

    async def ids(**only: object) -> list[str]:
        return [t.id async for page in pages(directory, **only) for t in page]  # type: ignore[arg-type]

    assert await ids() == ["b", "c"]
    assert await ids(statuses=[TenantStatus.DELETED, TenantStatus.ACTIVE]) == ["a", "b"]
    assert await ids(time_zones=["Asia/Tokyo"]) == ["b"]
    assert await ids(time_zones=["UTC"]) == ["c"]
    bare = SqlTenantDirectory(database, "select id from organizations")
    assert [t.id for t in await bare.page(limit=9, statuses=[TenantStatus.ACTIVE])] == [*"abc"]
    assert await bare.page(limit=9, statuses=[TenantStatus.SUSPENDED]) == []
    assert await bare.page(limit=9, time_zones=["Asia/Tokyo"]) == []


async def test_a_tenants_own_code_looks_up_itself_and_no_other(
    database: Database, fill: Fill
) -> None:
    fill("('acme')", "('globex')")
    directory = SqlTenantDirectory(database, QUERY)
    with enter(TenantScope("acme")):
        own = await directory.find("acme")
        with pytest.raises(ScopeMissing):
            await directory.find("globex")
        with pytest.raises(ScopeMissing):
            await directory.page(limit=1)
    assert own is not None


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("select name from organizations", "query has no column id"),
        ("select id, zone as timezone from organizations", "query has a column timezone"),
        ("select id, 'closed' as status from organizations", "a value that is no tenant's: status"),
        ("select id, 'gold' as plan from organizations", "a plan that is not among plans="),
        ("select 'Not One' as id from organizations", "a value that is no tenant's"),
        ("select id, 'x' as features from organizations", "no tenant's: features"),
    ],
)
async def test_a_query_that_does_not_fit_says_so(
    database: Database, fill: Fill, query: str, sentence: str
) -> None:
    fill("('acme')")
    with pytest.raises(ConfigurationError, match=sentence):
        await SqlTenantDirectory(database, query).page(limit=1)


@pytest.mark.parametrize(
    ("kind", "type", "advice"),
    [
        ("integer", "text", 'Give SqlTenantDirectory type="bigint".'),
        ("bigint", "text", 'Give SqlTenantDirectory type="bigint".'),
        ("uuid", "text", 'Give SqlTenantDirectory type="uuid".'),
        ("text", "bigint", 'Give SqlTenantDirectory type="text".'),
        ("inet", "text", "Cast it to text."),
    ],
)
async def test_an_id_of_another_type_than_the_directorys_is_told(
    database: Database, kind: str, type: str, advice: str
) -> None:
    directory = SqlTenantDirectory(database, f"select null::{kind} as id", type=type)  # type: ignore[arg-type]
    told = re.escape(f"its column id the type {kind}, and the directory was told {type}. {advice}")
    for asked in (directory.page(limit=1), directory.find("7")):
        with pytest.raises(ConfigurationError, match=told):
            await asked


@pytest.mark.parametrize("status", ["'active'", "case when n = 1 then 'active' end", "null"])
@pytest.mark.parametrize(
    ("type", "query"),
    [
        ("text", "select 'acme' || (m / 10) as id, {status} as status"),
        ("bigint", "select (7 + m / 10)::bigint as id, {status} as status"),
    ],
)
async def test_a_tenant_with_two_rows_is_refused_wherever_it_is_looked_up(
    database: Database, type: str, query: str, status: str
) -> None:
    """Also if the other row has another status, or would begin the next page."""
    rows = " from generate_series(9, 30) as m, generate_series(1, 1 + (m = 20)::int) as n"
    status = status if "n" in status[:1] else status.replace("end", "else 'suspended' end")
    directory = SqlTenantDirectory(
        database,
        f"select * from ({query.format(status=status)} {rows} where m % 10 = 0) as found",
        type=type,  # type: ignore[arg-type]
    )
    one, two, other = ("acme1", "acme2", "acme3") if type == "text" else ("8", "9", "10")
    told = rf'two rows for the tenant "{two}", and nothing says which is true'
    with pytest.raises(DirectoryAmbiguous, match=told):
        await directory.find(two)
    with pytest.raises(DirectoryAmbiguous, match=told):
        await directory.find_many([one, two])
    assert [tenant.id for tenant in await directory.find_many([one, other])] == [one, other]
    assert (await directory.find(one)) is not None
    for limit in (2, 3, 9):
        with pytest.raises(DirectoryAmbiguous, match=told):
            await directory.page(limit=limit)
    with pytest.raises(DirectoryAmbiguous, match=told):
        await directory.page(limit=9, statuses=[TenantStatus.ACTIVE], time_zones=["UTC"])
    assert [tenant.id for tenant in await directory.page(limit=1)] != []


async def test_an_id_is_checked_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sql_directory, "may_exist", lambda tenant: asked.append(tenant))
    assert await SqlTenantDirectory(database, QUERY).find("acme") is None
    assert asked == ["acme"]


async def test_a_role_that_may_not_read_it_is_named(
    database: Database, database_urls: DatabaseUrls, fill: Fill
) -> None:
    fill("('acme')")
    with connect(database_urls.owner) as owner:
        owner.execute(b"revoke select on organizations from tenancy_platform")
    with pytest.raises(DirectoryUnreadable, match=r"^tenancy_platform may not .*organizations\."):
        await SqlTenantDirectory(database, QUERY).find("acme")
