"""An earlier release's database is upgraded while that release's workers continue."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.control_plane.tables import ControlPlane
from temporal_tenancy.core.payloads import read
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import kept_input
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.lint import catalogue
from temporal_tenancy.outbox.inspection import backlogs, find_message
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.tables import OutboxData
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.postgres.migrations import migrate, pending
from temporal_tenancy.postgres.moving import move
from tests.fixtures.postgres import within
from tests.fixtures.relay import take_lost
from tests.system.upgrade.releases import ENVIRONMENTS, Release, build, releases

_numbers: Final = itertools.count(1)
Make = Callable[..., DatabaseUrls]
Step = Callable[[DatabaseUrls], None]


@pytest.fixture(scope="module")
def make(postgres: EmbeddedPostgres) -> Iterator[Make]:
    """Makes copies of a release's database after some steps, and takes each step once."""
    made: list[str] = []

    def copy(template: str, name: str) -> DatabaseUrls:
        made.append(name)
        return postgres.create_database(name, template=template)

    def make(release: Release, *steps: Step) -> DatabaseUrls:
        template = f"release_{release.name}"
        if template not in made:
            made.append(template)
            build(postgres.create_database(template), release)
        for step in steps:
            before, template = template, f"{template}_{step.__name__}"
            if template not in made:
                step(copy(before, template))
        return copy(template, f"upgrade_{next(_numbers)}")

    yield make
    for name in made:
        postgres.drop_database(name)


def upgrade(urls: DatabaseUrls) -> None:
    migrate(
        urls.owner,
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        relay_url=urls.relay,
        application=[TENANT_DATA],
        harden=True,
    )


def move_tables(urls: DatabaseUrls) -> None:
    assert move(urls.owner)


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.name)
@pytest.mark.parametrize(
    "steps",
    [[], [upgrade], [upgrade, move_tables]],
    ids=["as it was", "upgraded", "upgraded and moved"],
)
def test_what_a_release_sends_does_what_it_did_also_once_the_database_is_upgraded(
    make: Make, release: Release, steps: Sequence[Step]
) -> None:
    urls = make(release)
    with ExitStack() as stack:
        # Its workers were started before.
        workers = {
            role: stack.enter_context(psycopg.connect(connect_url(getattr(urls, role))))
            for role in ("tenant", "platform", "relay")
        }
        for worker in workers.values():
            worker.execute("select 1")
            worker.commit()
        for step in steps:
            step(urls)
            assert pending(urls.tenant, ENVIRONMENTS) == []
        failed = []
        for transaction in release.transactions:
            worker = workers[transaction["role"]]
            for one in transaction["sent"]:
                rows = worker.execute(one["sql"], one["parameters"]).rowcount
                if rows != one["rows"]:
                    failed.append((transaction["role"], one["sql"], one["rows"], rows))
            worker.commit()
        assert failed == []


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.name)
@pytest.mark.parametrize("steps", [[upgrade], [upgrade, move_tables]], ids=["upgraded", "moved"])
def test_an_upgraded_database_is_as_a_new_one(
    make: Make, release: Release, steps: Sequence[Step]
) -> None:
    urls = make(release, *steps)
    with connect(urls.superuser) as superuser:
        assert catalogue.lint(superuser, environments=ENVIRONMENTS) == []


def connect_url(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


# What the first release lets the tenant's role write, by table: the invalid columns,
# and what an upgrade makes of them. True stands for the time of the upgrade.
FOREIGN: Final = "acme/mail.send/messages-1"
MESSAGES: Final[list[tuple[dict[str, object], dict[str, object]]]] = [
    ({"created_at": "infinity"}, {"created_at": True}),
    ({"created_at": "4713-01-01 BC"}, {"created_at": True}),
    ({"scheduled_at": "-infinity"}, {"scheduled_at": True}),
    ({"scheduled_at": "0001-01-01 BC"}, {"scheduled_at": True}),
    ({"scheduled_at": "infinity"}, {"scheduled_at": True}),
    ({"scheduled_at": "294276-01-01"}, {"scheduled_at": True}),
    ({"attempts": 2147483647}, {"attempts": 1_000_000}),
    ({"attempts": -5}, {"attempts": 0}),
    ({"correlation_id": "c" * 6 * 1024 * 1024}, {"correlation_id": "c" * 1000}),
    ({"job": "j" * 1_500}, {"job": "unknown.job"}),
    ({"key": "k" * 1_500}, {"key": None}),  # its unchanged id
    ({"error_message": "e" * 5_000_000}, {"error_message": "e" * 1_000}),
    ({"payload": f'"{"x" * 2_000_000}"'},
     {"payload": "more than a message may hold, taken out by the upgrade"}),
    ({"id": "00000000-0000-0000-0000-000000000000"}, {}),
    ({"id": "ffffffff-ffff-7fff-8000-000000000000"}, {}),
    ({"status": "processing", "lease_until": "infinity", "workflow_id": FOREIGN},
     {"lease_until": True, "workflow_id": None}),
    ({"status": "processing", "lease_until": "0044-03-15 BC"}, {"lease_until": True}),
    ({"status": "completed", "completed_at": "infinity"}, {"completed_at": True}),
    ({"dequeued_at": "infinity", "last_attempt_at": "-infinity"},
     {"dequeued_at": True, "last_attempt_at": True}),
    # Several at once.
    ({"id": "00000000-0000-0000-0000-000000000001", "created_at": "infinity", "attempts": -1,
      "job": "j" * 1_500}, {"created_at": True, "attempts": 0, "job": "unknown.job"}),
]  # fmt: skip
LETTERS: Final[list[tuple[dict[str, object], dict[str, object]]]] = [
    ({"failed_at": "infinity"}, {"failed_at": True}),
    ({"failed_at": "0044-03-15 BC"}, {"failed_at": True}),
    ({"recorded_at": "-infinity"}, {"recorded_at": True}),
    ({"handled_at": "infinity", "status": "resolved"}, {"handled_at": True}),
    ({"told_at": "infinity"}, {"told_at": True}),
    ({"workflow_id": "acme/mail.send/1"}, {"workflow_id": None, "job": "unknown.job"}),
    ({"workflow_id": "eve/mail.send.other/1"}, {"workflow_id": None, "job": "unknown.job"}),
    ({"message": "m" * 5_000_000}, {"message": "m" * 1_000}),
    ({"error_type": "m" * 5_000_000}, {"error_type": "m" * 1_000}),
    ({"run_id": "r" * 5_000}, {"run_id": None}),
    ({"source": "s" * 5_000}, {"source": "s" * 1_000}),
    ({"fingerprint": "x; rm -rf /"}, {"fingerprint": "2e1b1b2a"}),
]


def write(tenant: psycopg.Connection[Any], table: str, values: dict[str, object]) -> None:
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    tenant.execute(f"insert into {table} ({names}) values ({places})".encode(), values)


def attack(urls: DatabaseUrls) -> None:
    """Eve writes what the first release permits her."""
    with psycopg.connect(connect_url(urls.tenant)) as tenant:
        tenant.execute("select set_config('app.tenant_id', 'eve', true)")
        for number, (hostile, _) in enumerate(MESSAGES):
            sound = {"tenant_id": "eve", "job": "mail.send", "key": str(number), "payload": "{}"}
            write(tenant, "outbox_messages", sound | {"correlation_id": str(number)} | hostile)
        for number, (hostile, _) in enumerate(LETTERS):
            letter: dict[str, object] = {
                "tenant_id": "eve",
                "job": "mail.send",
                "source": str(number),
                "workflow_id": f"eve/mail.send/{number}",
                "error_type": "Broken",
                "message": "so",
                "fingerprint": "0123456789abcdef",
                "attempts": 1,
            }
            write(tenant, "dead_letters", letter | {"handled_by": str(number)} | hostile)
        write(tenant, "processed_events", {
            "tenant_id": "eve", "consumer": "c", "event_id": "e", "processed_at": "infinity",
        })  # fmt: skip


def found(
    superuser: psycopg.Connection[Any], table: str, number_in: str, number: int, like: str
) -> Any:
    query = f"select * from {table} where tenant_id = 'eve' and ({number_in} = %s or {like})"
    with superuser.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query.encode(), [str(number)]).fetchall()


def as_stated(is_: object, wanted: object) -> bool:
    if wanted is True:
        now = datetime.now(UTC)
        return isinstance(is_, datetime) and now - timedelta(minutes=5) < is_ <= now
    return is_ == wanted


def test_an_upgrade_repairs_what_a_tenants_role_has_written(make: Make) -> None:
    urls = make(Release("first"), attack, upgrade)
    with connect(urls.superuser) as superuser:
        for number, (hostile, repaired) in enumerate(MESSAGES):
            like = "correlation_id like 'cccc%%'" if "correlation_id" in hostile else "false"
            [row] = found(superuser, "outbox_messages", "correlation_id", number, like)
            if "key" in repaired:
                repaired = {"key": str(row.id)}
            wrong = {n: getattr(row, n) for n, v in repaired.items()
                     if not as_stated(getattr(row, n), v)}  # fmt: skip
            assert (number, wrong) == (number, {})
            assert row.id.version == 7
            assert row.id.int >> 80 < 253402300800000
        for number, (_, repaired) in enumerate(LETTERS):
            [row] = found(superuser, "dead_letters", "handled_by", number, "false")
            if "workflow_id" in repaired:
                repaired = repaired | {"workflow_id": f"eve/unknown.job/{row.id}"}
            if "fingerprint" in repaired:
                assert len(row.fingerprint) == 16
                assert int(row.fingerprint, 16)
                continue
            wrong = {n: getattr(row, n) for n, v in repaired.items()
                     if not as_stated(getattr(row, n), v)}  # fmt: skip
            assert (number, wrong) == (number, {})
        [(event,)] = superuser.execute(
            "select processed_at from processed_events where tenant_id = 'eve'"
        ).fetchall()
        assert as_stated(event, True)


def test_an_upgrade_leaves_other_rows_as_they_are(make: Make) -> None:
    urls = make(Release("first"))
    tables = ("outbox_messages", "dead_letters", "processed_events")
    contents = [f"select * from {table} order by 1, 2, 3" for table in tables]
    with connect(urls.superuser) as superuser:
        before = [superuser.execute(each.encode()).fetchall() for each in contents]
        upgrade(urls)
        for each, rows in zip(contents, before, strict=True):
            after = superuser.execute(each.encode()).fetchall()
            # New columns come last, and are empty.
            width = len(rows[0])
            assert [row[:width] for row in after] == rows
            assert {value for row in after for value in row[width:]} <= {None}


async def test_after_an_upgrade_every_row_is_read_whatever_was_in_it(make: Make) -> None:
    urls = make(Release("first"), attack, upgrade)
    workers = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    relay = Database(platform_url=urls.relay)
    try:
        async with workers.platform_session("test") as session:
            listed = await letters.latest(session, Filter(), limit=100)
            assert {each.tenant_id for each in listed} == {"acme", "globex", "eve"}
            await letters.depths(session)
        async with relay.platform_session("test") as session:
            assert {each.tenant_id for each in await backlogs(session)} == {"acme", "globex", "eve"}
            lease = timedelta(minutes=1)
            quotas = dict.fromkeys(("acme", "globex", "eve"), 100)
            claimed = await queue.claim(session, quotas, lease=lease)
            assert len(claimed) == 4 + sum("status" not in hostile for hostile, _ in MESSAGES)
            while (lost := await take_lost(session, lease=lease)) is not None:
                assert (lost.workflow_id or "/").split("/")[0] in ("", lost.tenant_id)
        with within(workers, "eve"):
            async with tenant_session() as session:
                assert await find_message(session, "mail.send", "0") is not None
    finally:
        await workers.dispose()
        await relay.dispose()


async def test_a_letter_goes_on_having_its_input_where_that_ones_id_was_none(
    make: Make,
) -> None:
    urls = make(Release("first"))
    nil = "00000000-0000-0000-0000-000000000000"
    with connect(urls.superuser) as superuser:
        superuser.execute("""
            update outbox_messages set id = '00000000-0000-0000-0000-000000000000'
             where key = 'dead-1'
        """)
        superuser.execute("""
            update dead_letters set message_id = '00000000-0000-0000-0000-000000000000'
             where workflow_id = 'acme/mail.send/dead-1'
        """)
    upgrade(urls)
    workers = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    try:
        async with workers.platform_session("test") as session:
            found = await letters.latest(session, Filter(job="mail.send"), limit=100)
        [letter] = [each for each in found if each.workflow_id == "acme/mail.send/dead-1"]
        assert str(letter.message_id) != nil
        with use_database(workers):
            assert read(await kept_input(letter) or "") == {"n": 1}
    finally:
        await workers.dispose()


def test_an_upgrade_that_breaks_off_is_finished_by_the_next(make: Make) -> None:
    urls = make(Release("first"), attack)
    with connect(urls.superuser) as superuser:
        # A constraint that the repair of the messages runs into.
        wall = "no check (job <> 'unknown.job') not valid"
        superuser.execute(f"alter table outbox_messages add constraint {wall}".encode())
        with pytest.raises(Exception, match="violates check constraint"):
            upgrade(urls)
        superuser.execute("alter table outbox_messages drop constraint no")
        upgrade(urls)
        assert catalogue.lint(superuser, environments=ENVIRONMENTS) == []


def test_every_table_of_the_library_has_rows_in_a_release(make: Make) -> None:
    urls = make(Release("first"))
    engine = create_engine(urls.superuser, poolclass=NullPool)
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())  # later releases have more
        empty = [
            table.name
            for metadata in (ControlPlane.metadata, OutboxData.metadata)
            for table in metadata.sorted_tables
            if table.name in there
            and connection.exec_driver_sql(f"select count(*) from {table.name}").scalar() == 0
        ]
    assert there >= {"tenants", "ledger", "dead_letters", "outbox_messages"}
    assert empty == []
