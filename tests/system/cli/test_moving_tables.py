"""`migrate --move` on a database of an earlier release, whose tables are in `public`."""

from __future__ import annotations

from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.postgres.moving import MOVED
from tests.fixtures.starter import NO_STORES, Batch, Command


async def test_the_tables_are_moved_and_the_doctor_says_what_is_left_to_do(
    empty_urls: DatabaseUrls, batch: Batch
) -> None:
    migrate(
        empty_urls.owner,
        tenant_url=empty_urls.tenant,
        platform_url=empty_urls.platform,
        application=[TENANT_DATA],
        installation=Installation("public"),
    )
    environ: dict[str, str | None] = {
        "DATABASE_URL": empty_urls.owner,
        "TENANT_DATABASE_URL": empty_urls.tenant,
        "PLATFORM_DATABASE_URL": empty_urls.platform,
    }
    wrong, added, moved, again, doctor, tenants, finished, told = await batch(
        [
            Command(["migrate", "--finish", "--json"], environ),
            Command(["tenants", "add", "acme", "--plan", "standard", "--json"], environ),
            Command(["migrate", "--move", "--json"], environ),
            Command(["migrate", "--move"], environ),
            Command(["doctor", "--json"], environ),
            Command(["tenants", "list", "--json"], environ),
            Command(["migrate", "--move", "--finish", "--json"], environ),
            Command(["migrate", "--move", "--finish"], environ),
        ]
    )
    assert wrong.code == 2, wrong
    assert "--finish goes with --move" in wrong.err
    assert added.code == 0, added
    assert moved.document == {
        "migrated": False,
        "were_behind": [],
        "stores": NO_STORES,
        "moved": True,
        "schema": "tenancy",
        "views": sorted(MOVED),
    }
    assert again.code == 0, again
    assert '"starter.py migrate --move --finish" drops the views' in " ".join(again.out.split())
    checks = {check["name"]: check for check in doctor.document["checks"]}
    assert checks["migrations"]["verdict"] == "ok", doctor
    assert f"{len(MOVED)} views in public" in checks["migrations"]["message"]
    assert checks["row-level security"]["verdict"] == "ok", doctor
    assert [tenant["id"] for tenant in tenants.document] == ["acme"]
    assert finished.document == {"dropped": sorted(MOVED)}
    assert told.out == "There was no view to drop.\n"
