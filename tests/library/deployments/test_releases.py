"""Which tenants a release gives its version to, and what it refuses."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.errors import CheckViolation
from sqlalchemy.exc import DBAPIError
from temporalio.common import WorkerDeploymentVersion

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.cli import Application
from temporal_tenancy.cli._deployment_checks import problems_of
from temporal_tenancy.cli.program import Program, use_program
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ConfigurationError, TenantUnknown
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.deployments import (
    Bounds,
    Cohort,
    Release,
    ReleasedVersions,
    ReleaseInvalid,
    Releases,
    TenantInTwoCohorts,
    deployments,
    versioned,
)
from temporal_tenancy.deployments.comparison import Compared
from temporal_tenancy.deployments.versioning import version_of_worker
from temporal_tenancy.deployments.versions import Deployment, VersionState
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from tests.fixtures.log_lines import LogLines

TENANTS = ("acme", "globex", "initech")
NEW = WorkerDeploymentVersion("app", "v2")
OTHER = WorkerDeploymentVersion("app", "v3")
ELSEWHERE = WorkerDeploymentVersion("svc", "s2")
QUEUE = "bulk"


@pytest.fixture
async def releases(database: Database, tenants: Tenants) -> Releases:
    for tenant in TENANTS:
        await tenants.add(tenant, tenant, plan="enterprise")
    return Releases(database)


async def ramp(
    releases: Releases,
    database: Database,
    cohort: Cohort,
    version: WorkerDeploymentVersion = NEW,
    queues: Sequence[str] | None = None,
) -> Release:
    directory = ControlPlaneDirectory(database)
    return await releases.ramp(
        version, cohort, Bounds(), directory=directory, by="ada", queues=queues
    )


def named(*tenants: str) -> Cohort:
    return Cohort(frozenset(tenants))


@given(
    tenant=st.text(min_size=1),
    build=st.text(min_size=1),
    shares=st.lists(st.floats(0.0001, 1), min_size=2, max_size=2),
)
def test_a_larger_share_keeps_the_tenants_of_the_smaller_one(
    tenant: str, build: str, shares: list[float]
) -> None:
    small, large = (Cohort(share=share) for share in sorted(shares))
    assert not small.has(tenant, build) or large.has(tenant, build)
    assert Cohort(share=1.0).has(tenant, build)


def test_a_share_is_that_part_of_the_tenants_and_another_part_for_another_version() -> None:
    tenants = [f"t{number:05}" for number in range(10_000)]
    percent = Cohort(share=0.01)
    chosen = {build: {t for t in tenants if percent.has(t, build)} for build in ("v2", "v3")}
    assert all(70 <= len(part) <= 130 for part in chosen.values())
    assert len(chosen["v2"] & chosen["v3"]) < 10


@pytest.mark.parametrize("share", [0.0, -0.1, 1.0001, 150.0])
def test_a_share_of_nothing_or_over_100_percent_is_refused(share: float) -> None:
    with pytest.raises(ReleaseInvalid, match="at most 100 %"):
        Cohort(share=share)


def test_a_cohort_is_by_name_or_a_share() -> None:
    bad: list[tuple[frozenset[str] | None, float | None]]
    bad = [(None, None), (frozenset({"acme"}), 0.1), (frozenset(), None)]
    for tenants, share in bad:
        with pytest.raises(ReleaseInvalid):
            Cohort(tenants, share)


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_slowdown": 1.0},
        {"max_slowdown": math.inf},
        {"max_slowdown": math.nan},
        {"max_slowdown": 1e13},
        {"max_failures": 0.0},
        {"max_failures": math.nan},
        {"max_failures": math.inf},
        {"min_runs": 0},
        {"min_runs": 10**12},
        {"min_tenants": 0},
    ],
)
def test_a_bound_that_disarms_the_halt_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ReleaseInvalid, match="at most 1,000"):
        Bounds(**bounds)


async def test_a_release_gives_its_tenants_the_version_until_it_ends(
    releases: Releases, database: Database
) -> None:
    await ramp(releases, database, named("acme"))
    versions = ReleasedVersions(database, seconds=0)
    assert await versions.version_of("acme", QUEUE) == NEW
    assert await versions.version_of("globex", QUEUE) is None
    with enter(TenantScope("acme")):  # a tenant's own code may start its jobs
        assert await versions.version_of("acme", QUEUE) == NEW
    ended = await releases.end(NEW, ReleaseState.ROLLED_BACK, reason="worse", by="ada")
    assert ended is not None
    assert (ended.state, ended.reason) == (ReleaseState.ROLLED_BACK, "worse")
    assert await versions.version_of("acme", QUEUE) is None
    assert await releases.end(NEW, ReleaseState.ROLLED_BACK, reason=None, by="ada") is None


async def test_a_release_is_for_the_queues_that_its_workers_serve(
    releases: Releases, database: Database
) -> None:
    await ramp(releases, database, named("acme"), queues=["bulk"])
    versions = ReleasedVersions(database, seconds=0)
    assert await versions.version_of("acme", "bulk") == NEW
    assert await versions.version_of("acme", "other") is None
    # Releases of two deployments do not meet on different queues, and on the same they do.
    await ramp(releases, database, Cohort(share=1.0), ELSEWHERE, queues=["other"])
    assert await versions.version_of("acme", "other") == ELSEWHERE
    assert await versions.version_of("acme", "bulk") == NEW
    with pytest.raises(TenantInTwoCohorts, match="acme gets version v2 of app already"):
        await ramp(releases, database, Cohort(share=1.0), ELSEWHERE, queues=["bulk", "other"])


ODD_ROWS = (
    "tenants = '{}'",
    "tenants = array[null]::text[]",
    "max_failures = 5",
    "max_failures = 'NaN'",
    "max_slowdown = 'Infinity'",
    "max_slowdown = 'NaN'",
)


async def test_an_odd_row_is_refused_by_the_table_and_ignored_where_it_is_there(
    releases: Releases, database: Database, database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    await ramp(releases, database, named("acme"))
    await ramp(releases, database, named("globex"), OTHER)
    versions = ReleasedVersions(database, seconds=0)
    with connect(database_urls.owner) as owner:
        for odd in ODD_ROWS:
            with pytest.raises(CheckViolation), owner.transaction():
                owner.execute(f"update tenancy.releases set {odd} where build_id = 'v2'")
        owner.execute(
            "alter table tenancy.releases drop constraint ck_releases_bounds,"
            " drop constraint ck_releases_tenants"
        )
        good = owner.execute(
            "select tenants, max_failures, max_slowdown from tenancy.releases where build_id = 'v2'"
        ).fetchone()
        for odd in ODD_ROWS:
            owner.execute(f"update tenancy.releases set {odd} where build_id = 'v2'")
            assert await versions.version_of("acme", QUEUE) is None, odd
            assert await versions.version_of("globex", QUEUE) == OTHER, odd
            [found] = [each for each in await releases.all() if each.version == NEW]
            assert found.odd is not None
            ended = await releases.end(NEW, ReleaseState.ROLLED_BACK, reason="odd", by="ada")
            assert ended is not None
            assert ended.state is ReleaseState.ROLLED_BACK
            owner.execute(
                "update tenancy.releases set state = 'ramping', tenants = %s, max_failures = %s,"
                " max_slowdown = %s where build_id = 'v2'",
                good,
            )
    assert "release.odd" in log_lines.text
    assert await versions.version_of("acme", QUEUE) == NEW


async def test_a_row_of_an_earlier_release_goes_on(
    releases: Releases, database: Database, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.owner) as owner:  # it names none of the new columns
        owner.execute(
            "insert into tenancy.releases (deployment, build_id, state, tenants, max_failures,"
            " max_slowdown, min_runs, changed_by)"
            " values ('app', 'v2', 'ramping', '{acme}', 0.1, 3, 5, 'ada')"
        )
    assert await ReleasedVersions(database).version_of("acme", "any") == NEW
    [release] = await releases.ramping()
    assert (release.queues, release.bounds) == (None, Bounds())


async def test_a_version_that_was_taken_back_says_so_until_it_is_promoted_again(
    releases: Releases, database: Database
) -> None:
    await releases.take_back(NEW, reason="bad", by="ada")  # it was never ramped
    [release] = await releases.all()
    assert (release.state, release.reason) == (ReleaseState.ROLLED_BACK, "bad")
    again = await releases.end(NEW, ReleaseState.ROLLED_BACK, reason="once more", by="ada")
    assert again is None
    await releases.end(NEW, ReleaseState.PROMOTED, reason=None, by="ada")
    taken = await releases.take_back(NEW, reason="worse", by="ada")
    assert (taken.state, taken.reason) == (ReleaseState.ROLLED_BACK, "worse")


async def test_a_relay_reads_them_and_changes_none(
    releases: Releases, database: Database, relay_database: Database
) -> None:
    await ramp(releases, database, named("acme"))
    assert await ReleasedVersions(relay_database).version_of("acme", QUEUE) == NEW
    with pytest.raises(DBAPIError, match="permission denied"):
        await Releases(relay_database).end(NEW, ReleaseState.HALTED, reason=None, by="a relay")


async def test_without_the_database_everybody_starts_on_the_current_version(
    log_lines: LogLines,
) -> None:
    away = Database(platform_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert await ReleasedVersions(away).version_of("acme", QUEUE) is None
    assert "releases.unread" in log_lines.text
    tenants_only = Database(tenant_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert deployments(tenants_only).version_of is None
    assert deployments(away).version_of is not None


async def test_many_starts_at_once_cost_one_query(releases: Releases, database: Database) -> None:
    await ramp(releases, database, named("acme"))
    versions = ReleasedVersions(database)
    found = await asyncio.gather(*(versions.version_of(tenant, QUEUE) for tenant in TENANTS * 50))
    assert found.count(NEW) == 50
    await releases.end(NEW, ReleaseState.ROLLED_BACK, reason=None, by="ada")
    assert await versions.version_of("acme", QUEUE) == NEW  # for 5 s
    later = replace(versions, clock=lambda: float("inf"))
    assert await later.version_of("acme", QUEUE) is None


async def test_a_release_can_grow_and_begins_anew_once_it_has_ended(
    releases: Releases, database: Database
) -> None:
    first = await ramp(releases, database, Cohort(share=0.8))
    grown = await ramp(releases, database, Cohort(share=0.9))
    assert (grown.cohort.share, grown.began_at) == (0.9, first.began_at)
    assert (first.replaced, grown.replaced) == (None, first)
    await releases.end(NEW, ReleaseState.HALTED, reason="worse", by="the watch")
    anew = await ramp(releases, database, named("acme"))
    assert (anew.state, anew.reason) == (ReleaseState.RAMPING, None)
    assert anew.began_at > first.began_at
    assert anew.replaced is not None
    assert (anew.replaced.state, anew.replaced.reason) == (ReleaseState.HALTED, "worse")


async def test_a_rollback_without_a_reason_keeps_that_of_the_halt(
    releases: Releases, database: Database
) -> None:
    await ramp(releases, database, named("acme"))
    await releases.end(NEW, ReleaseState.HALTED, reason="worse", by="the watch")
    ended = await releases.end(NEW, ReleaseState.ROLLED_BACK, reason=None, by="ada")
    assert ended is not None
    assert ended.reason == "worse"
    promoted = await releases.end(NEW, ReleaseState.PROMOTED, reason=None, by="ada")
    assert promoted is not None
    assert promoted.reason is None


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(("suspended", "least"), [((), 2), (("acme",), 2), (("acme", "globex"), 1)])
async def test_a_release_to_fewer_tenants_than_must_fail_is_halted_when_all_of_them_do(
    releases: Releases,
    tenants: Tenants,
    database: Database,
    suspended: Sequence[str],
    least: int,
    by_name: bool,
) -> None:
    for tenant in suspended:
        await tenants.set_status(tenant, TenantStatus.SUSPENDED)
    cohort = named(*TENANTS) if by_name else Cohort(share=1.0)
    assert (await ramp(releases, database, cohort)).bounds.min_tenants == least


async def test_a_share_that_no_tenant_is_in_is_refused(
    releases: Releases, database: Database
) -> None:
    nobody = Cohort(share=1e-9)
    with pytest.raises(ReleaseInvalid, match=r"none of 3\. Take a larger share, or name tenants"):
        await ramp(releases, database, nobody)
    assert list(await releases.all()) == []


async def test_no_tenant_is_in_two_cohorts(releases: Releases, database: Database) -> None:
    await ramp(releases, database, named("acme", "globex"))
    for cohort in (named("globex", "initech"), Cohort(share=1.0)):
        with pytest.raises(TenantInTwoCohorts, match="gets version v2 of app already"):
            await ramp(releases, database, cohort, OTHER)
    await ramp(releases, database, named("initech"), OTHER)
    await releases.end(NEW, ReleaseState.PROMOTED, reason=None, by="ada")
    await ramp(releases, database, named("acme", "initech"), OTHER)


async def test_two_shares_are_refused(releases: Releases, database: Database) -> None:
    await ramp(releases, database, Cohort(share=1.0))
    with pytest.raises(TenantInTwoCohorts, match="can be in both shares"):
        await ramp(releases, database, Cohort(share=1.0), OTHER)


async def test_of_two_releases_at_once_one_is_refused(
    releases: Releases, database: Database
) -> None:
    results = await asyncio.gather(
        *(ramp(releases, database, named("acme"), version) for version in (NEW, OTHER)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Release", "TenantInTwoCohorts"]


async def test_a_tenant_that_does_not_exist_is_refused(
    releases: Releases, database: Database
) -> None:
    with pytest.raises(TenantUnknown, match="nobody"):
        await ramp(releases, database, named("acme", "nobody"))
    assert list(await releases.all()) == []


async def test_the_database_of_an_earlier_release_has_no_releases(
    releases: Releases, database_urls: DatabaseUrls
) -> None:
    with connect(database_urls.owner) as owner:
        owner.execute("drop table tenancy.releases")
    assert list(await releases.all()) == []


GOOD = Compared(
    "a.job",
    new_runs=20,
    new_ended=20,
    new_failed=1,
    old_ended=100,
    old_failed=5,
    new_tenants=20,
    new_bad=1,
    old_tenants=100,
    old_bad=5,
    new_seconds=2.0,
    old_seconds=1.9,
)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"new_bad": 3}, None),  # 10 % more is the bound
        ({"new_failed": 5, "new_bad": 5}, "5 of 20 runs of a.job failed, of 5 of 20 tenants"),
        ({"new_runs": 4, "new_ended": 4, "new_failed": 4, "new_bad": 4}, None),  # too few
        ({"new_bad": 20, "old_bad": 100}, None),  # as bad as the others
        ({"new_failed": 20, "new_tenants": 5, "new_bad": 1}, None),  # one customer
        # One customer elsewhere is no comparison.
        ({"new_bad": 20, "old_failed": 100, "old_tenants": 1, "old_bad": 1}, "20 tenants, and"),
        ({"new_seconds": 6.5}, None),  # within the times' own error
        ({"new_seconds": 9.0}, "takes 9 s, and 1.9 s on the other versions"),
        ({"new_ended": 0, "new_failed": 0, "new_seconds": 60.0}, "takes 1 min"),  # it hangs
        ({"new_seconds": 60.0, "old_seconds": None}, None),  # nothing to compare with
        ({"new_seconds": 60.0, "own_seconds": 50.0}, None),  # its tenants are always slow
        (
            {"new_seconds": 60.0, "old_seconds": None, "own_seconds": 9.0},
            "takes 1 min, and 9 s before the release",
        ),
    ],
)
def test_a_release_is_halted_for_more_failures_or_longer_runs(
    changes: dict[str, object], fault: str | None
) -> None:
    found = replace(GOOD, **changes).fault(Bounds())  # type: ignore[arg-type]
    assert (found is None) == (fault is None)
    assert fault is None or (found is not None and fault in found)


def test_one_tenant_halts_a_release_that_it_has_alone() -> None:
    alone = replace(GOOD, new_failed=20, new_tenants=1, new_bad=1)
    assert alone.fault(Bounds(min_tenants=1)) is not None
    assert alone.fault(Bounds()) is None


def test_a_worker_has_a_deployment_and_a_build_id_or_neither() -> None:
    assert version_of_worker(None, None) is None
    config = version_of_worker("app", "v2")
    assert config is not None
    assert (config.version, config.use_worker_versioning) == (NEW, True)
    for deployment, build in ((None, "v2"), ("app", None)):
        with pytest.raises(ConfigurationError, match="missing"):
            version_of_worker(deployment, build)


@pytest.mark.parametrize(
    ("deployment", "build"),
    [
        ("my.app", "v2"),
        ("a:b", "v2"),
        ("", "v2"),
        ("app", ""),
        ("app", "v\x1b2"),
        ("a" * 101, "v"),
        ("app", "v\\"),
        ("app", "é"),
        ("app", "v'"),
    ],
)
def test_a_version_that_the_server_would_refuse_is_refused(deployment: str, build: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        versioned(deployment, build)
    assert "\x1b" not in str(refused.value)


def deployment(count: int, current: str | None = "v0") -> Deployment:
    versions = [VersionState(f"v{number}", "drained", None, None) for number in range(count)]
    return Deployment("app", current, versions)


@pytest.fixture
def program() -> Iterator[None]:
    def load() -> Application:
        raise AssertionError("no application is needed")

    with use_program(Program(load=load)):
        yield


def test_the_doctor_warns_at_70_percent_of_the_servers_limit_of_versions(program: None) -> None:
    assert problems_of(deployment(69)) == []
    [problem] = problems_of(deployment(70))
    assert "app has 70 versions, 70 of them drained, and the server allows 100" in problem
    [problem] = problems_of(deployment(1, current=None))
    assert "app has no current version" in problem


def test_the_version_before_the_current_one_is_the_last_that_was_current() -> None:
    hours = [datetime(2026, 11, 27, hour, tzinfo=UTC) for hour in (8, 9)]
    versions = [
        VersionState("v3", "current", None, hours[1]),
        VersionState("v1", "drained", None, hours[0]),
        VersionState("v2", "draining", None, hours[1]),
        VersionState("v4", "inactive", None, None),
    ]
    assert Deployment("app", "v3", versions).before_current() == "v2"
    assert Deployment("app", "v3", versions[:1]).before_current() is None
    assert Deployment("app", "v3", versions).before_current({"v2"}) == "v1"
    assert Deployment("app", "v3", versions).before_current({"v2", "v1"}) is None
