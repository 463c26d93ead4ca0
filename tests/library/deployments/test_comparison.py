"""What the ledger says of a release: whose runs count, on which side, and how long they took."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.deployments import Bounds, Cohort, Release
from temporal_tenancy.deployments.comparison import EARLIER_TICKS, Compared, compare_ticks
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, use_database

BEGAN = datetime(2026, 11, 27, 12, tzinfo=UTC)
RELEASE = Release(
    deployment="app",
    build_id="v2",
    state=ReleaseState.RAMPING,
    cohort=Cohort(share=0.5),
    bounds=Bounds(),
    began_at=BEGAN,
    ended_at=None,
    reason=None,
    changed_by="ada",
)
ENDED = ("succeeded", "failed")


class Row(NamedTuple):
    """A row of the ledger; its times are seconds since the release began."""

    tenant: str
    state: str = "succeeded"
    started: float | None = 1
    ended: float | None = 3
    build: str | None = "v2"
    deployment: str | None = "app"
    tick: str = "a"
    job: str = "a.job"


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else BEGAN + timedelta(seconds=seconds)


async def compared(
    database: Database,
    urls: DatabaseUrls,
    rows: Sequence[Row],
    ticks: dict[tuple[str, str], float] | None = None,
) -> Sequence[Compared]:
    """Returns what is found with these rows; `ticks` has when each began, after the release's."""
    if ticks is None:
        ticks = dict.fromkeys({(row.job, row.tick) for row in rows}, 0.5)
    with connect(urls.owner) as owner, owner.cursor() as cursor:
        cursor.execute("delete from tenancy.ledger")
        cursor.execute("delete from tenancy.ticks")
        cursor.executemany(
            "insert into tenancy.ticks"
            " (job, tick, state, workflow_id, run_id, started_at, ended_at)"
            " values (%s, %s, 'ended', 'w', 'r', %s, %s)",
            [(*key, moment(begun), moment(begun)) for key, begun in ticks.items()],
        )
        cursor.executemany(
            "insert into tenancy.ledger"
            " (job, tick, tenant_id, state, started_at, ended_at, build_id, deployment)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    *(row.job, row.tick, row.tenant, row.state),
                    *(moment(row.started), moment(row.ended), row.build, row.deployment),
                )
                for row in rows
            ],
        )
    with use_database(database):
        return await compare_ticks(RELEASE)


async def test_failures_are_counted_by_tenant(
    database: Database, database_urls: DatabaseUrls
) -> None:
    rows = [
        *(Row("acme", "failed", tick=tick) for tick in "abc"),
        Row("globex"),
        *(Row("initech", "failed", tick=tick, build=None, deployment=None) for tick in "ab"),
        Row("umbrella", build=None, deployment=None),
    ]
    [found] = await compared(database, database_urls, rows)
    assert (found.what, found.new_runs, found.new_ended, found.new_failed) == ("a.job", 4, 4, 3)
    assert (found.new_tenants, found.new_bad) == (2, 1)
    assert (found.old_ended, found.old_failed) == (3, 2)
    assert (found.old_tenants, found.old_bad) == (2, 1)


async def test_the_same_build_id_of_another_deployment_is_another_version(
    database: Database, database_urls: DatabaseUrls
) -> None:
    theirs = Row("acme", "failed", deployment="svc")
    assert await compared(database, database_urls, [theirs]) == []
    [found] = await compared(database, database_urls, [theirs, Row("globex")])
    assert (found.new_ended, found.new_bad, found.old_ended, found.old_bad) == (1, 0, 1, 1)
    # A row that an earlier release's worker wrote.
    [found] = await compared(database, database_urls, [theirs._replace(deployment=None)])
    assert (found.new_ended, found.new_bad) == (1, 1)


@pytest.mark.parametrize(
    "odd",
    [
        Row("odd", "failed", started=None),
        Row("odd", "failed", started=None, ended=None),
        Row("odd", "failed", started=-1),  # it began before the release
        Row("odd", "skipped"),
        Row("odd", "planned", started=None, ended=None),
        Row("odd", "not_started"),
    ],
)
async def test_a_row_that_is_no_run_of_the_release_does_not_count(
    database: Database, database_urls: DatabaseUrls, odd: Row
) -> None:
    [found] = await compared(database, database_urls, [Row("acme"), odd])
    assert (found.new_runs, found.new_tenants, found.new_bad) == (1, 1, 0)
    assert await compared(database, database_urls, [odd]) == []


async def test_a_row_without_an_end_or_that_ended_before_it_began_breaks_nothing(
    database: Database, database_urls: DatabaseUrls
) -> None:
    rows = [Row("acme", "failed", ended=None), Row("globex", ended=-5), Row("initech")]
    [found] = await compared(database, database_urls, rows)
    assert (found.new_ended, found.new_bad) == (3, 1)
    assert found.new_seconds == 2.0


async def test_a_run_that_hangs_counts_with_its_time_so_far_and_the_others_do_not(
    database: Database, database_urls: DatabaseUrls
) -> None:
    rows = [
        Row("acme", "running", ended=None),
        Row("globex", "running", ended=None, build=None),
        Row("initech", build=None),
    ]
    [found] = await compared(database, database_urls, rows)
    assert (found.new_runs, found.new_ended, found.old_ended) == (1, 0, 1)
    assert found.new_seconds is not None
    assert found.new_seconds > 60
    assert found.old_seconds == 2.0


async def test_a_tenant_is_compared_with_its_own_runs_of_the_last_ticks(
    database: Database, database_urls: DatabaseUrls
) -> None:
    ticks = {("a.job", f"{number}"): -100.0 * number for number in range(1, EARLIER_TICKS + 2)}
    earlier = [
        Row("acme", started=begun, ended=begun + 10 * -begun / 100, build=None, tick=tick)
        for (_, tick), begun in ticks.items()
    ]
    slow = [row._replace(tenant="globex", ended=0) for row in earlier]
    failed = Row("initech", "failed", started=-100, ended=-1, build=None, tick="1")
    rows = [*earlier, *slow, failed, Row("acme"), Row("initech")]
    [found] = await compared(database, database_urls, rows, {**ticks, ("a.job", "a"): 0.5})
    assert found.own_seconds == 30.0  # of 10, 20, 30, 40 and 50


def expected(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts the rows of each job again, in Python."""
    found = {}
    for job in sorted({row.job for row in rows}):
        runs = [
            row
            for row in rows
            if row.job == job
            and row.started is not None
            and row.started >= 0
            and row.state in ("running", *ENDED)
        ]
        sides: dict[bool, list[Row]] = {True: [], False: []}
        for row in runs:
            sides[row.build == "v2" and row.deployment in ("app", None)].append(row)
        if not sides[True]:
            continue
        counts: list[Any] = []
        for side in (sides[True], sides[False]):
            ended = [row for row in side if row.state in ENDED]
            failed = [row for row in ended if row.state == "failed"]
            counts += [len(ended), len(failed)]
            counts += [len({row.tenant for row in part}) for part in (ended, failed)]
        old = [(row.ended or 0) - (row.started or 0) for row in sides[False] if row.state in ENDED]
        found[job] = (*counts, median(old) if old else None)
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_any_rows_are_counted_as_by_hand(
    database: Database, database_urls: DatabaseUrls, seed: int
) -> None:
    chance = random.Random(seed)
    rows = []
    for job in ("a.job", "b.job", "c.job"):
        for tick in "abc":
            for number in range(12):
                if chance.random() < 0.2:
                    continue
                state = chance.choice(("planned", "running", *ENDED, *ENDED, "skipped"))
                started = chance.choice((None, -60, 1, 2, 3))
                begun = started if started is not None else 1
                ended = begun + chance.randint(1, 30) if state in ENDED else None
                build = chance.choice((None, "v1", "v2")) if job != "c.job" else "v1"
                named = chance.choice(("app", "svc", None)) if build else None
                rows.append(Row(f"t{number}", state, started, ended, build, named, tick, job))
    found = {
        each.what: (
            *(each.new_ended, each.new_failed, each.new_tenants, each.new_bad),
            *(each.old_ended, each.old_failed, each.old_tenants, each.old_bad),
            each.old_seconds,
        )
        for each in await compared(database, database_urls, rows)
    }
    assert found == expected(rows)
    assert "c.job" not in found
