"""Tenants in the control plane: finding, paging, adding, and changing the status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.plans import PlanUnknown
from temporal_tenancy.control_plane.tenants import (
    TenantExists,
    TenantExistsInOtherCase,
    Tenants,
)
from temporal_tenancy.core.directory import TenantDirectory, TenantStatus
from temporal_tenancy.core.due_times import TimeZoneUnknown
from temporal_tenancy.core.errors import ScopeMissing, TenantInvalid, TenantUnknown
from temporal_tenancy.core.scope import current_scope
from temporal_tenancy.core.tenant_id_types import TenantIdType, declare_tenant_ids
from temporal_tenancy.postgres.database import Database
from tests.fixtures.postgres import within
from tests.fixtures.tenant_columns import own_tenant_types

ONE = "0192f0c1-2b4d-7e8f-9abc-def012345678"


@pytest.fixture
def tenants(database: Database) -> Tenants:
    return Tenants(database)


@pytest.fixture
def directory(database: Database) -> TenantDirectory:
    return ControlPlaneDirectory(database)


async def test_an_added_tenant_is_found_whole(tenants: Tenants, directory: TenantDirectory) -> None:
    added = await tenants.add(
        "acme",
        "Acme",
        plan="standard",
        status=TenantStatus.TRIAL,
        features=["beta"],
        time_zone="Europe/Berlin",
        settings={"logo": "acme.svg"},
    )
    assert await directory.find("acme") == added
    assert (added.plan.fairness_weight, added.time_zone) == (2.0, "Europe/Berlin")
    assert added.settings == {"logo": "acme.svg"}
    assert added.has_feature("beta")
    assert added.has_feature("reports")


async def test_who_is_not_there_is_none(directory: TenantDirectory) -> None:
    assert await directory.find("nobody") is None


async def test_a_lookup_and_a_page_are_one_query_each(
    database: Database, tenants: Tenants, directory: TenantDirectory
) -> None:
    for name in ("a", "b"):
        await tenants.add(name, name, plan="free")
    statements: list[str] = []
    event.listen(
        database.platform_engine.sync_engine,
        "after_cursor_execute",
        lambda *arguments: statements.append(arguments[2]),
    )
    await directory.find("a")
    await directory.page(limit=10)
    queries = [each for each in statements if "set_config" not in each]
    assert len(queries) == 2


async def test_pages_follow_one_another_in_the_order_of_ids(
    tenants: Tenants, directory: TenantDirectory
) -> None:
    ids = ["0", "A-c", "Ab", "B_", "Z0", "a-b", "a_b", "ab0", "b", "b-", "org_01EHZ", "z"]
    for name in reversed(ids):
        await tenants.add(name, name, plan="free")
    found: list[str] = []
    while page := await directory.page(after=found[-1] if found else None, limit=2):
        found += [tenant.id for tenant in page]
    assert found == sorted(ids)


async def test_deleted_tenants_are_left_out_unless_asked_for(
    tenants: Tenants, directory: TenantDirectory
) -> None:
    await tenants.add("a", "A", plan="free")
    await tenants.add("b", "B", plan="free")
    await tenants.set_status("b", TenantStatus.DELETED)
    assert [tenant.id for tenant in await directory.page(limit=9)] == ["a"]
    deleted = await directory.page(limit=9, statuses=[TenantStatus.DELETED])
    assert [tenant.id for tenant in deleted] == ["b"]
    assert [tenant.id async for tenant in tenants.list(statuses=list(TenantStatus))] == ["a", "b"]


async def test_a_changed_status_says_since_when_and_the_same_one_does_not(
    tenants: Tenants,
) -> None:
    active = await tenants.add("acme", "Acme", plan="free")
    suspended = await tenants.set_status("acme", TenantStatus.SUSPENDED, reason="unpaid")
    assert suspended.status is TenantStatus.SUSPENDED
    assert suspended.status_since > active.status_since
    assert await tenants.set_status("acme", TenantStatus.SUSPENDED) == suspended


async def test_what_cannot_be_added_is_refused_with_its_own_type(tenants: Tenants) -> None:
    await tenants.add("acme", "Acme", plan="free")
    with pytest.raises(TenantExists, match="acme"):
        await tenants.add("acme", "Another", plan="free")
    with pytest.raises(PlanUnknown, match="enterprise, free, standard"):
        await tenants.add("b", "B", plan="golden")
    with pytest.raises(TimeZoneUnknown, match="Mars/Olympus"):
        await tenants.add("b", "B", plan="free", time_zone="Mars/Olympus")
    with pytest.raises(TimeZoneUnknown):
        await tenants.add("b", "B", plan="free", time_zone="../etc/passwd")
    with pytest.raises(TenantInvalid):
        await tenants.add("platform", "P", plan="free")
    with pytest.raises(TenantUnknown, match="there is no tenant b"):
        await tenants.set_status("b", TenantStatus.ACTIVE)


@pytest.mark.parametrize(
    ("kind", "id", "others"),
    [
        ("uuid", ONE, [ONE.upper(), ONE.replace("-", "")]),
        ("bigint", "7", ["07", "0007"]),
    ],
)
async def test_another_spelling_of_a_tenants_id_names_that_tenant(
    tenants: Tenants, kind: TenantIdType, id: str, others: list[str]
) -> None:
    with own_tenant_types():
        declare_tenant_ids(kind)
        for other in others:
            with pytest.raises(TenantInvalid, match="as PostgreSQL writes it"):
                await tenants.add(other, "Another", plan="free")
        await tenants.add(id, "One", plan="free")
        for other in others:
            with pytest.raises(TenantExistsInOtherCase, match=f'"{other}" is another spelling'):
                await tenants.add(other, "Another", plan="free")


async def test_an_id_that_differs_only_by_case_is_taken(tenants: Tenants) -> None:
    await tenants.add("Acme", "Acme", plan="free")
    with pytest.raises(TenantExistsInOtherCase, match='"Acme", and "aCME" differs from it only'):
        await tenants.add("aCME", "Another", plan="free")
    with pytest.raises(TenantExists, match='already a tenant "Acme"'):
        await tenants.add("Acme", "Another", plan="free")
    with pytest.raises(TenantUnknown):
        await tenants.set_status("acme", TenantStatus.SUSPENDED)
    assert [tenant.id async for tenant in tenants.list()] == ["Acme"]


async def test_the_database_takes_no_two_ids_that_differ_only_by_case(
    database: Database, tenants: Tenants
) -> None:
    await tenants.add("acme", "Acme", plan="free")
    insert = (
        "insert into tenancy.tenants (id, name, status, plan_id) "
        "values ('ACME', '', 'active', 'free')"
    )
    with pytest.raises(IntegrityError, match="uq_tenants_lower_id"):
        async with database.platform_session("test") as session:
            await session.execute(text(insert))


@pytest.mark.parametrize(
    "malformed", ["platform", "Platform", "É", "a" * 64, "-a", "a/b", "", "a\n"]
)
async def test_the_database_takes_no_malformed_id_either(
    database: Database, malformed: str
) -> None:
    insert = (
        "insert into tenancy.tenants (id, name, status, plan_id) values (:id, '', 'active', 'free')"
    )
    with pytest.raises(Exception, match="ck_tenants_id"):
        async with database.platform_session("test") as session:
            await session.execute(text(insert), {"id": malformed})


async def test_a_lookup_from_a_tenants_code_leaves_it_in_its_scope(
    database: Database, tenants: Tenants, directory: TenantDirectory
) -> None:
    await tenants.add("ua", "United", plan="free")
    with within(database, "ua"):
        before = current_scope()
        assert await directory.find("ua") is not None
        assert current_scope() == before
        with pytest.raises(ScopeMissing):
            await tenants.set_status("ua", TenantStatus.SUSPENDED)


@pytest.mark.parametrize(
    "look",
    [
        lambda directory: directory.find("dl"),
        lambda directory: directory.find_many(["ua"]),
        lambda directory: directory.page(limit=10),
    ],
)
async def test_a_tenants_code_looks_up_nobody_else(
    database: Database, directory: TenantDirectory, look: Callable[..., Awaitable[object]]
) -> None:
    with within(database, "ua"), pytest.raises(ScopeMissing, match="control plane"):
        await look(directory)


@pytest.mark.parametrize("status", [TenantStatus.TRIAL, TenantStatus.ACTIVE])
async def test_a_suspended_tenant_is_resumed_as_what_it_was(
    database: Database, status: TenantStatus
) -> None:
    tenants = Tenants(database)
    await tenants.add("acme", "Acme", plan="standard", status=status)
    for _ in range(2):
        await tenants.set_status("acme", TenantStatus.SUSPENDED)
    assert (await tenants.resume("acme")).status is status
    assert (await tenants.resume("acme")).status is status
