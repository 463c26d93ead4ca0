"""Turns are rows that no tenant's role can lock; no lock is waited for without a limit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.server_checks import renew_fairness
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.database_errors import LockHeld, MigrationBlocked
from temporal_tenancy.postgres.migrations import Patience, migrate
from temporal_tenancy.postgres.session_limits import SessionLimits
from tests.fixtures.held_locks import holding
from tests.fixtures.postgres import within
from tests.library.dead_letters.test_dead_letter_sweep import start, until_listed
from tests.library.dead_letters.test_failed_runs import letters

IN_TIME = 20.0  # seconds
WAITS = "select exists (select from pg_locks where not granted)"
# The keys that were locked before turns became rows.
KEYS = (
    "select pg_advisory_lock(hashtextextended('acme/admission/slots', 0))",
    f"select pg_advisory_lock({0x74656E616E6379})",
)


@pytest.fixture
def altering(tmp_path: Path) -> MigrationEnvironment:
    """An application's migration of a table that tenants use."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(
        "from sqlalchemy import MetaData\n"
        "from temporal_tenancy.postgres.migrations import run_migrations\n"
        "run_migrations(MetaData())\n"
    )
    (tmp_path / "versions" / "0001_probe.py").write_text(
        "from alembic import op\n"
        "revision, down_revision = '0001', None\n"
        "def upgrade():\n"
        "    op.execute('create table before_the_lock ()')\n"
        "    op.execute('alter table tenancy.outbox_messages add column probe text')\n"
    )
    return MigrationEnvironment("probe", str(tmp_path), "probe_version")


def run(urls: DatabaseUrls, *application: MigrationEnvironment, patience: Patience) -> None:
    migrate(
        urls.owner,
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        application=application,
        patience=patience,
    )


async def test_a_database_is_migrated_whatever_keys_a_tenant_holds(
    empty_urls: DatabaseUrls, database_urls: DatabaseUrls
) -> None:
    brief = Patience(turn=timedelta(seconds=5))
    await asyncio.to_thread(run, empty_urls, patience=brief)  # lets the role log in
    with holding(empty_urls.tenant, "acme", *KEYS):
        async with asyncio.timeout(IN_TIME):
            await asyncio.to_thread(run, empty_urls, patience=brief)


@pytest.mark.parametrize(
    "statement",
    [
        "select pg_advisory_lock(1)",
        "prepare peek as select * from tenancy.locks",
        "prepare peek as update tenancy.locks set name = name",
        "select from tenancy.control_plane_version",
    ],
)
async def test_a_tenant_reaches_no_turn_by_any_statement_that_it_may_send(
    database_urls: DatabaseUrls, statement: str
) -> None:
    with holding(database_urls.tenant, "acme", statement):
        async with asyncio.timeout(IN_TIME):
            await asyncio.to_thread(
                run, database_urls, patience=Patience(turn=timedelta(seconds=1), tries=1)
            )


def test_a_migration_that_is_held_up_says_by_whom_and_leaves_nothing_behind(
    database_urls: DatabaseUrls, altering: MigrationEnvironment
) -> None:
    brief = Patience(timedelta(milliseconds=50), tries=3, pause=timedelta(milliseconds=10))
    with holding(database_urls.tenant, "acme", "select from tenancy.outbox_messages") as held:
        pid = held.info.backend_pid
        with pytest.raises(
            MigrationBlocked, match=rf"probe .* 3 tries.* process {pid} of tenancy_tenant\. Try"
        ):
            run(database_urls, altering, patience=brief)
    with connect(database_urls.owner) as owner:
        made = owner.execute("select to_regclass('before_the_lock')").fetchone()
    assert made == (None,)


async def test_a_migration_gets_its_turn_once_the_lock_is_free(
    database_urls: DatabaseUrls, altering: MigrationEnvironment
) -> None:
    patience = Patience(timedelta(milliseconds=200), tries=500, pause=timedelta(milliseconds=20))
    with connect(database_urls.superuser) as superuser:
        with holding(database_urls.tenant, "acme", "select from tenancy.outbox_messages"):
            migrating = asyncio.create_task(
                asyncio.to_thread(run, database_urls, altering, patience=patience)
            )
            async with asyncio.timeout(IN_TIME):
                while superuser.execute(WAITS).fetchone() == (False,):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        async with asyncio.timeout(IN_TIME):
            await migrating
        assert superuser.execute("select probe from tenancy.outbox_messages").fetchall() == []


def test_of_two_migrations_the_second_waits_for_its_turn_and_says_so(
    database_urls: DatabaseUrls,
) -> None:
    plain = database_urls.owner.replace("+psycopg", "")
    with psycopg.connect(plain) as other:
        other.execute("insert into tenancy.locks (name) values ('migrations')")
        with pytest.raises(MigrationBlocked, match="another call has been migrating"):
            run(database_urls, patience=Patience(turn=timedelta(milliseconds=50)))
        other.rollback()
    run(database_urls, patience=Patience(turn=timedelta(seconds=5)))


async def test_a_turn_is_had_by_one_at_a_time_and_what_is_taken_is_passed_over(
    database: Database,
) -> None:
    async with database.platform_session("one") as one:
        await locks.take(one, "a")
        assert await locks.take_free(one, ["b"]) == {"b"}
        async with database.platform_session("another") as another:
            assert await locks.take_free(another, ["c"]) == {"c"}
        async with database.platform_session("another") as another:
            assert await locks.take_free(another, []) == frozenset()
    async with database.platform_session("one") as one:
        await locks.take(one, "a")
        async with database.platform_session("another") as another:
            assert await locks.take_free(another, ["a", "b", "c", "d"]) == {"b", "c", "d"}
        async with database.platform_session("a third") as third:
            with pytest.raises(LockHeld):
                await locks.take(third, "a")


async def test_a_server_is_tried_whatever_keys_a_tenant_holds(
    app: Client, database: Database, database_urls: DatabaseUrls
) -> None:
    key = f"select pg_advisory_lock(hashtextextended('fairness of {app.namespace}', 0))"
    with holding(database_urls.tenant, "acme", key):
        async with asyncio.timeout(IN_TIME):
            assert (await renew_fairness(app, database)).holds


async def test_a_session_of_the_platform_gives_up_a_lock_and_so_does_one_in_passing(
    database: Database, database_urls: DatabaseUrls
) -> None:
    insert = """
        insert into tenancy.dead_letters
            (tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts)
        values ('acme', 'test.note', 'relay', 'acme/test.note/k', 'X', 'x', '0123456789abcdef', 1)
        on conflict (tenant_id, workflow_id) do nothing
    """
    brief = timedelta(milliseconds=20)
    with holding(database_urls.tenant, "acme", insert):
        with pytest.raises(LockHeld, match="locked by another transaction"):
            async with database.platform_session("test", lock_timeout=brief) as session:
                await session.execute(text(insert))
        with within(database, "acme"), pytest.raises(LockHeld):
            async with tenant_session(limits=SessionLimits(lock=brief)) as session:
                await session.execute(text(insert))
    async with database.platform_session("test") as session:  # it ended with the transaction
        assert await session.scalar(text("show lock_timeout")) == "1s"
    with within(database, "acme"):
        async with tenant_session() as session:
            assert await session.scalar(text("show lock_timeout")) != "20ms"


async def test_a_sweep_passes_over_a_tenant_that_holds_locks_and_comes_back(
    app: Client, database: Database, database_urls: DatabaseUrls, tenants: Tenants
) -> None:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="enterprise")
        await (await start(app, "stopped", tenant)).terminate()
    await until_listed(app, 2)
    unwritten = """
        insert into tenancy.dead_letters
            (tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts)
        select 'acme', job, 'relay', 'acme/' || job || '/stopped', 'X', 'x', '0123456789abcdef', 1
        from unnest(array['test.controlled', 'test.failing']) as job
    """
    now = datetime.now(UTC) + timedelta(minutes=5)  # so that the position would advance
    with use_database(database):
        with holding(database_urls.tenant, "acme", unwritten):
            async with asyncio.timeout(IN_TIME):
                assert await Sweep(app).find(now, until=float("inf")) == 1
        assert [each.tenant_id for each in await letters(database)] == ["globex"]
        assert await Sweep(app).find(now, until=float("inf")) == 1
    assert {each.tenant_id for each in await letters(database)} == {"acme", "globex"}


async def test_settled_letters_are_forgotten_beside_a_tenant_that_holds_its_own(
    database: Database, database_urls: DatabaseUrls
) -> None:
    old = """
        insert into tenancy.outbox_messages (tenant_id, id, job, key, payload, status)
        select tenant, '01900000-0000-7000-8000-000000000001', 'x.y', 'k', '{}', 'dead_letter'
        from unnest(array['acme', 'globex']) as tenant;
        insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
            fingerprint, attempts, status, handled_at, message_id)
        select tenant, 'x.y', 'relay', tenant || '/x.y/k', 'X', 'x', '0123456789abcdef', 1,
            'resolved',
            now() - interval '1 year', '01900000-0000-7000-8000-000000000001'
        from unnest(array['acme', 'globex']) as tenant
    """
    with connect(database_urls.superuser) as superuser:
        superuser.execute(old)
        sweep = Sweep(None)  # type: ignore[arg-type]  # it asks no server
        with use_database(database):
            with holding(
                database_urls.tenant, "acme", "select 1 from tenancy.outbox_messages for update"
            ):
                async with asyncio.timeout(IN_TIME):
                    assert await sweep.forget(datetime.now(UTC)) == 1
            left = (
                "select tenant_id from tenancy.dead_letters union all select tenant_id from "
                "tenancy.outbox_messages"
            )
            assert superuser.execute(left).fetchall() == [("acme",), ("acme",)]
            assert await sweep.forget(datetime.now(UTC)) == 1
        assert superuser.execute(left).fetchall() == []
