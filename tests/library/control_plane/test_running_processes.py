"""What processes say of themselves, and which of them are older than what is in force."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.running_processes import (
    RunningProcess,
    announced,
    configuration_digest,
    out_of_date,
    running_processes,
)
from temporal_tenancy.core.migration_environment import CONTROL_PLANE, LIBRARY
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics.gauges import of_processes
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.revisions import (
    applied_revisions,
    newest_revisions,
    revisions_of,
)

STARTED = datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
OLD = {CONTROL_PLANE.name: revisions_of(CONTROL_PLANE)[1]}


def process(
    identity: str,
    configuration: str = "a",
    *,
    kind: str = "worker",
    serves: str = "bulk",
    minutes: float = 0,
    version: str = "v1",
    revisions: dict[str, str] | None = None,
) -> RunningProcess:
    return RunningProcess(
        kind=kind,
        identity=identity,
        serves=serves,
        configuration=configuration,
        version=version,
        revisions=newest_revisions() if revisions is None else revisions,
        started_at=STARTED + timedelta(minutes=minutes),
    )


async def running(database: Database) -> list[str]:
    async with database.platform_session("look for processes in a test") as session:
        return [each.identity for each in await running_processes(session)]


async def configurations(database: Database) -> list[str]:
    async with database.platform_session("look for processes in a test") as session:
        return [each.configuration for each in await running_processes(session)]


async def until_running(database: Database, *identities: str) -> None:
    async with asyncio.timeout(30):
        while await running(database) != list(identities):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)


async def test_a_process_is_known_while_it_runs(
    database: Database, relay_database: Database
) -> None:
    one, other = process("w1"), process("r1", kind="relay", serves="outbox", minutes=1)
    async with announced(database, one):
        await until_running(database, "w1")
        async with announced(relay_database, other):
            await until_running(relay_database, "r1", "w1")
            async with database.platform_session("look for processes in a test") as session:
                assert list(await running_processes(session)) == [other, one]
        assert await running(database) == ["w1"]
    assert await running(database) == []


async def test_a_process_that_ends_leaves_the_row_of_its_successor(database: Database) -> None:
    async with announced(database, process("w1")):
        await until_running(database, "w1")
        successor = announced(database, process("w1", "b", minutes=5))
        await successor.__aenter__()
        while await configurations(database) != ["b"]:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
    assert await running(database) == ["w1"]
    await successor.__aexit__(None, None, None)
    assert await running(database) == []


async def test_a_killed_process_is_gone_after_a_while(database: Database) -> None:
    async with announced(database, process("w1")):
        await until_running(database, "w1")
        async with database.platform_session("let time pass in a test") as session:
            await session.execute(
                text("update tenancy.running_processes set seen_at = now() - interval '2 minutes'")
            )
        assert await running(database) == []


async def test_no_tenant_reads_or_writes_it(database_urls: DatabaseUrls) -> None:
    with connect(database_urls.tenant) as connection:
        for statement in ("select from", "delete from"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"{statement} tenancy.running_processes")
            connection.rollback()


async def test_a_database_that_is_away_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    away = Database(platform_url="postgresql://tenancy_platform:x@127.0.0.1:1/none")
    caplog.set_level(logging.WARNING)
    try:
        async with announced(away, process("w1"), every=timedelta(milliseconds=1)):
            async with asyncio.timeout(30):
                while not caplog.records:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    finally:
        await away.dispose()
    assert {record.message for record in caplog.records} == {"process.not_announced"}
    assert len(caplog.records) <= 2  # not at each try


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([process("w2", "a", minutes=1)], set()),
        ([process("w2", "b", minutes=1)], {("w1", "configuration", "w2")}),
        ([process("w2", "b", minutes=-1)], {("w2", "configuration", "w1")}),
        ([process("w2", "b", serves="critical", minutes=1)], set()),
        ([process("r1", "b", kind="relay", minutes=1)], set()),
        ([process("w2", "b", version="v2", minutes=1)], set()),  # a release, with other settings
        (
            [
                process("w2", "b", version="v2", minutes=1),
                process("w3", "c", version="v2", minutes=2),
            ],
            {("w2", "configuration", "w3")},
        ),
        (
            [process("w2", "b", minutes=1), process("w3", "c", minutes=2)],
            {("w1", "configuration", "w3"), ("w2", "configuration", "w3")},
        ),
        ([process("w2", revisions=OLD)], {("w2", "migrations", CONTROL_PLANE.name)}),
        ([process("w2", revisions={})], set()),
        ([process("w2", revisions={CONTROL_PLANE.name: "of a later release"})], set()),
    ],
)
def test_what_is_older_than_what_is_in_force_is_named(
    others: list[RunningProcess], expected: set[tuple[str, str, str]]
) -> None:
    found = out_of_date([process("w1"), *others], newest_revisions())
    assert {(each.process.identity, each.what, each.by) for each in found} == expected


def test_all_are_older_than_a_migration_that_nobody_knows() -> None:
    found = out_of_date([process("w1")], {CONTROL_PLANE.name: "of a later release"})
    assert [(each.what, each.in_force) for each in found] == [("migrations", "of a later release")]


async def test_a_relay_counts_them(database: Database, relay_database: Database) -> None:
    async with (
        announced(database, process("w1", revisions=OLD)),
        announced(database, process("w2", "b", minutes=1)),
    ):
        await until_running(database, "w1", "w2")
        found = await of_processes(relay_database)
    assert found[of.OUT_OF_DATE] == {("worker", "configuration"): 1, ("worker", "migrations"): 1}


async def test_a_relay_counts_the_versions_that_serve_the_same(
    database: Database, relay_database: Database
) -> None:
    async with (
        announced(database, process("w1", serves="bulk,critical")),
        announced(database, process("w2", version="v2", minutes=1)),
        announced(database, process("w3", version="", minutes=2)),  # unknown
        announced(database, process("r1", kind="relay", serves="outbox", version="v3")),
    ):
        await until_running(database, "r1", "w1", "w2", "w3")
        found = await of_processes(relay_database)
    assert found[of.PROCESS_VERSIONS] == {
        ("worker", "bulk"): 2,
        ("worker", "critical"): 1,
        ("relay", "outbox"): 1,
    }
    assert set(found[of.OUT_OF_DATE].values()) == {0}


async def test_the_database_says_what_it_is_at(relay_database: Database) -> None:
    async with relay_database.platform_session("read the migrations in a test") as session:
        assert await applied_revisions(session, LIBRARY) == newest_revisions()


def test_a_digest_is_the_configurations() -> None:
    digest = configuration_digest({"url": "postgresql://app:secret@db/app", "pool": 5})
    assert digest == configuration_digest({"pool": 5, "url": "postgresql://app:secret@db/app"})
    assert digest != configuration_digest({"pool": 5, "url": "postgresql://app:other@db/app"})
    assert len(digest) == 12
