"""No door leads a tenant with a store of its own to the shared tables.

Each door either finds the tenant's store or refuses; a door that is written without a thought of
stores is found by its source.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import TenancyPlugin, TenantDirectory
from temporal_tenancy.cli import Application
from temporal_tenancy.cli.program import Program, use_program
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.core.errors import StoreUnsupported
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres import _shared_only
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.secrets import FileConnectionSecrets
from temporal_tenancy.stores.sign_up import SignUp
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.postgres import within
from tests.fixtures.tables.models import DailyUsage

ROOT = Path(__file__).parents[3]
DAY = date(2013, 4, 1)
FOLDERS = ("temporal_tenancy", "saas", "processes", "activities", "workflows", "dev")


@pytest.fixture(autouse=True)
async def tenants(
    preparation: Preparation,
    connection_secrets: FileConnectionSecrets,
    database: Database,
    other_database: DatabaseUrls,
) -> None:
    """A tenant of each isolation, whose id is the isolation's name."""
    preparation.prepare(Isolation.SCHEMA)
    preparation.prepare(Isolation.DATABASE, at=other_database.owner)
    for isolation in Isolation:
        await SignUp(database, connection_secrets).add(
            str(isolation), "a tenant", plan="free", isolation=isolation
        )


@pytest.fixture(autouse=True)
def environment(
    database_urls: DatabaseUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variables of an application."""
    monkeypatch.setenv("TENANT_URL", database_urls.tenant)
    monkeypatch.setenv("PLATFORM_URL", database_urls.platform)
    monkeypatch.setenv("CONNECTIONS_URL", (tmp_path / "connections").as_uri())


def application(directory: object = None, *, connections: bool) -> Database:
    """Returns what the commands of an application open sessions on."""

    def plugin(database: Database) -> TenancyPlugin:
        made: TenantDirectory = (
            InMemoryDirectory([make_tenant(each) for each in Isolation])
            if directory is InMemoryDirectory
            else ControlPlaneDirectory(database)
        )
        return TenancyPlugin(directory=made, database=database)

    made = Application.from_environment(
        plugin,
        tenant="TENANT_URL",
        platform="PLATFORM_URL",
        connections="CONNECTIONS_URL" if connections else None,
    )
    with use_program(Program(load=lambda: made)):
        return made.database()


@pytest.fixture(
    params=[
        "commands",
        "commands without connections",
        "commands with a directory of their own",
        "a database without stores",
    ]
)
async def door(
    request: pytest.FixtureRequest, database_urls: DatabaseUrls
) -> AsyncIterator[Database]:
    """The sessions of a door."""
    if request.param == "a database without stores":
        made = Database(tenant_url=database_urls.tenant, platform_url=database_urls.platform)
    elif request.param == "commands with a directory of their own":
        made = application(InMemoryDirectory, connections=False)
    else:
        made = application(connections=request.param == "commands")
    yield made
    await made.dispose()


async def write(door: Database, tenant: str) -> None:
    with within(door, tenant):
        async with tenant_session() as session:
            session.add(DailyUsage(day=DAY, events=1, cancelled=0, distance=0, air_time=0))


async def test_a_tenant_with_a_store_is_never_in_the_shared_tables(
    door: Database, database_urls: DatabaseUrls, request: pytest.FixtureRequest
) -> None:
    reached = []
    for tenant in Isolation:
        try:
            await write(door, tenant)
            reached.append(tenant)
        except (StoreUnsupported, ConnectionSecretMissing):
            assert tenant is not Isolation.SHARED
    with connect(database_urls.superuser) as superuser:
        found = superuser.execute("select tenant_id from public.daily_usage").fetchall()
    assert found == [("shared",)]
    finds = {"commands": {*Isolation}, "commands without connections": {"shared", "schema"}}
    assert {*reached} == finds.get(request.node.callspec.params["door"], {"shared"})


async def test_a_process_without_stores_believes_the_shared_store_for_5_seconds(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Database(tenant_url=database_urls.tenant, platform_url=database_urls.platform)
    await write(door, "shared")
    asked: list[int] = []
    listen(door.platform_engine.sync_engine, "before_cursor_execute", lambda *_: asked.append(1))
    with within(door, "shared"):
        async with tenant_session() as session:
            await session.execute(text("select 1"))
    assert not asked
    monkeypatch.setattr(_shared_only, "monotonic", lambda: monotonic() + 5)
    with within(door, "shared"):
        async with tenant_session() as session:
            await session.execute(text("select 1"))
    assert asked
    await door.dispose()


async def test_a_control_plane_that_is_away_is_not_taken_for_the_shared_store(
    database_urls: DatabaseUrls,
) -> None:
    away = database_urls.platform.rpartition(":")[0] + ":1/x"
    door = Database(tenant_url=database_urls.tenant, platform_url=away)
    with within(door, "schema"), pytest.raises(DatabaseUnreachable):
        async with tenant_session():
            pytest.fail("a session opened")
    await door.dispose()


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yields each place in the code that makes a `Database`."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "Database"
                ):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_all_code_that_opens_the_tenants_tables_says_where_the_stores_are() -> None:
    doors = {where: {each.arg for each in call.keywords} for where, call in calls()}
    opened = {where for where, given in doors.items() if "tenant_url" in given}
    assert len(opened) >= 3
    assert [where for where in sorted(opened) if "stores" not in doors[where]] == []
