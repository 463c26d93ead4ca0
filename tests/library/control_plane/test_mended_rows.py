"""Rows that a person wrote before the tables refused them: a migration mends them."""

from __future__ import annotations

import psycopg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.postgres.branch import upgrade_library
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.migrations import migrate


def upgrade_to(urls: DatabaseUrls, revision: str) -> None:
    """Runs the library's migrations up to one of the control plane's."""
    engine = create_engine(urls.owner, poolclass=NullPool)
    with (
        engine.begin() as connection,
        Operations.context(MigrationContext.configure(connection)),
    ):
        upgrade_library({"control plane": revision})


def release(owner: psycopg.Connection, build: str, **changed: object) -> None:
    values = {
        "deployment": "app",
        "build_id": build,
        "state": "ramping",
        "tenants": ["acme", "globex"],
        "share": None,
        "max_failures": 0.1,
        "max_slowdown": 3.0,
        "min_runs": 5,
        "changed_by": "ada",
        **changed,
    }
    columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
    statement = f"insert into tenancy.releases ({columns}) values ({places})"
    owner.execute(statement.encode(), list(values.values()))


def releases(owner: psycopg.Connection, *columns: str) -> dict[str, tuple[object, ...]]:
    query = f"select build_id, {', '.join(columns)} from tenancy.releases"
    return {build: tuple(rest) for build, *rest in owner.execute(query.encode())}


def test_impossible_releases_are_bounded_or_halted(empty_urls: DatabaseUrls) -> None:
    upgrade_to(empty_urls, "0010")
    with connect(empty_urls.owner) as owner:
        release(owner, "good")
        release(owner, "failures", max_failures=7.0)
        release(owner, "nan", max_failures=float("nan"), max_slowdown=float("inf"))
        release(owner, "nobody", tenants=[])
        release(owner, "ended", state="promoted", tenants=[])
        release(owner, "null", tenants=[None])
    migrate(empty_urls.owner)
    with connect(empty_urls.owner) as owner:
        assert releases(owner, "state", "max_failures", "max_slowdown", "reason") == {
            "good": ("ramping", 0.1, 3.0, None),
            "failures": ("ramping", 1.0, 3.0, None),
            "nan": ("ramping", 1.0, 1000.0, None),
            "nobody": ("halted", 0.1, 3.0, "it named no tenant."),
            "ended": ("promoted", 0.1, 3.0, None),
            "null": ("halted", 0.1, 3.0, "it named no tenant."),
        }


def test_sums_that_are_no_numbers_become_0_and_the_others_stay(empty_urls: DatabaseUrls) -> None:
    upgrade_to(empty_urls, "0011")
    with connect(empty_urls.owner) as owner:
        owner.execute("""
            insert into tenancy.metered_hours values
                ('good', 'a.job', '2026-03-01 12:00Z', 1.5, 0, 1000000000000000, 4),
                ('nan', 'a.job', '2026-03-01 12:00Z', 'NaN', 2.5, 3, 4),
                ('endless', 'a.job', '2026-03-01 12:00Z', 1.5, 'Infinity', 3, 4),
                ('negative', 'a.job', '2026-03-01 12:00Z', 1.5, 2.5, -3, 4),
                ('large', 'a.job', '2026-03-01 12:00Z', 1.5, 2.5, 3, 1000000000000001)
        """)
    migrate(empty_urls.owner)
    with connect(empty_urls.owner) as owner:
        rows = owner.execute("""
            select tenant_id, worker_seconds, database_seconds, attempts, workflows
              from tenancy.metered_hours
        """)
        assert {tenant: tuple(sums) for tenant, *sums in rows} == {
            "good": (1.5, 0.0, 10**15, 4),
            "nan": (0.0, 2.5, 3, 4),
            "endless": (1.5, 0.0, 3, 4),
            "negative": (1.5, 2.5, 0, 4),
            "large": (1.5, 2.5, 3, 0),
        }


def test_a_release_to_few_tenants_by_name_is_halted_when_all_of_them_fail(
    empty_urls: DatabaseUrls,
) -> None:
    upgrade_to(empty_urls, "0012")
    with connect(empty_urls.owner) as owner:
        release(owner, "one", tenants=["acme"])
        release(owner, "two")
        release(owner, "ten", min_tenants=10)
        release(owner, "share", tenants=None, share=0.1)
        release(owner, "ended", tenants=[], state="halted")
    migrate(empty_urls.owner)
    with connect(empty_urls.owner) as owner:
        assert releases(owner, "min_tenants") == {
            "one": (1,),
            "two": (2,),
            "ten": (2,),
            "share": (2,),
            "ended": (2,),
        }
