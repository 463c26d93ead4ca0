"""One tenant is restored from a backup with the commands that the page has, in each isolation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import make_url, text

from dev.devstack.postgres import WHEEL, DatabaseUrls, wheel_binaries
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.lint.catalogue import lint
from temporal_tenancy.outbox import once
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.stores import (
    ControlPlaneStores,
    FileConnectionSecrets,
    Preparation,
    SignUp,
    upgrade_stores,
)
from tests.fixtures.postgres import other_programs, within
from tests.fixtures.tables.models import TABLES, DailyUsage

PAGE: Final = Path(__file__).parents[3] / "docs/how-to/restore-a-tenant.md"
COMMANDS: Final = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ISOLATIONS: Final = (Isolation.SHARED, Isolation.SCHEMA, Isolation.DATABASE)  # as the page has them
DAYS: Final = [date(2013, 4, day) for day in (1, 2)]


def run(
    commands: str,
    variables: dict[str, str],
    folder: Path,
    *,
    options: Sequence[str] = ("-euo", "pipefail"),
) -> None:
    done = subprocess.run(
        ["bash", *options, "-c", commands],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def variables_of(urls: DatabaseUrls, tenant: str, store: str) -> dict[str, str]:
    superuser = make_url(urls.superuser)
    programs = other_programs() or wheel_binaries(WHEEL)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(superuser.host),
        "PGPORT": str(superuser.port),
        "PGUSER": str(superuser.username),
        "PGPASSWORD": str(superuser.password),
        "DATABASE": str(superuser.database),
        "TENANT": tenant,
        "STORE": store,
    }


def migrate_all(preparation: Preparation) -> None:
    migrate(
        preparation.owner_url,
        tenant_url=preparation.tenant_url,
        platform_url=preparation.platform_url,
        relay_url=preparation.relay_url,
        application=preparation.application,
    )
    done = upgrade_stores(preparation.owner_url, application=preparation.application)
    assert not done.left


async def write(tenant: str, day: date) -> None:
    """Adds a day, as the effect of an event of that day."""
    async with tenant_session() as session:
        session.add(DailyUsage(day=day, events=1, cancelled=0, distance=0, air_time=0))
        assert await once(session, "usage.count", f"{tenant}/{day}")


async def days() -> Sequence[date]:
    async with tenant_session() as session:
        return list(await session.scalars(text("select day from daily_usage order by day")))


@pytest.mark.parametrize("isolation", ISOLATIONS, ids=str)
async def test_one_tenant_goes_back_and_no_other(
    isolation: Isolation,
    preparation: Preparation,
    connection_secrets: FileConnectionSecrets,
    database: Database,
    database_urls: DatabaseUrls,
    other_database: DatabaseUrls,
    tmp_path: Path,
) -> None:
    if isolation is not Isolation.SHARED:
        at = other_database.owner if isolation is Isolation.DATABASE else None
        preparation.prepare(isolation, name="a_store", at=at)
    sign_up = SignUp(database, connection_secrets)
    await sign_up.add("acme", "Acme", plan="free", isolation=isolation)
    await sign_up.add("globex", "Globex", plan="free", isolation=Isolation.SHARED)
    tenants = Database(
        tenant_url=database_urls.tenant, stores=ControlPlaneStores(database, connection_secrets)
    )
    variables = variables_of(database_urls, "acme", "a_store")
    at_first = 2 * ISOLATIONS.index(isolation)
    backup, restore = COMMANDS[at_first : at_first + 2]
    for tenant in ("acme", "globex"):
        with within(tenants, tenant):
            await write(tenant, DAYS[0])
    run(backup, variables, tmp_path)
    for tenant in ("acme", "globex"):
        with within(tenants, tenant):
            await write(tenant, DAYS[1])
            async with tenant_session() as session:
                await session.execute(text("delete from daily_usage where day = '2013-04-01'"))
            assert await days() == DAYS[1:]
    await tenants.dispose()
    run(restore, variables, tmp_path)
    with within(tenants, "globex"):
        assert await days() == DAYS[1:]
    with within(tenants, "acme"):
        assert await days() == DAYS[:1]
        if isolation is not Isolation.SCHEMA:  # whose records of events are the library's
            await write("acme", DAYS[1])  # its event can be processed again
        else:
            async with tenant_session() as session:
                assert not await once(session, "usage.count", f"acme/{DAYS[1]}")
    await tenants.dispose()
    # What the page asks for afterwards.
    migrate_all(preparation)
    with connect(database_urls.owner) as owner:
        assert lint(owner, environments=(*LIBRARY, TABLES)) == []


async def test_a_table_that_cannot_be_read_leaves_the_tenant_as_it_was(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    variables = variables_of(database_urls, "acme", "")
    backup, restore = COMMANDS[:2]
    run(backup, variables, tmp_path)
    with within(database, "acme"):
        await write("acme", DAYS[0])
    await database.dispose()
    program = shutil.which("psql", path=variables["PATH"])
    failing = tmp_path / "programs" / "psql"
    failing.parent.mkdir()
    failing.write_text(
        '#!/bin/sh\ncase "$*" in *"copy (select"*daily_usage*) exit 2;; esac\n'
        f'exec {program} "$@"\n'
    )
    failing.chmod(0o700)
    path = f"{failing.parent}{os.pathsep}{variables['PATH']}"
    run(restore, variables | {"PATH": path}, tmp_path, options=[])
    with within(database, "acme"):
        assert await days() == DAYS[:1]


def test_what_follows_asks_each_database_since_its_row_is_newer_than_the_backup() -> None:
    assert re.search(r"^\$ starter\.py migrate --verify\b", PAGE.read_text(), re.MULTILINE)
