"""Alerts about dead letters: in the log and in every sink, once an hour per kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.dead_letters._telling import DEPTH, KINDS_AT_ONCE, tell_of_dead_letters
from temporal_tenancy.dead_letters.alerts import Alert, named, tell
from temporal_tenancy.dead_letters.recording import Letter, Source
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.postgres.database_urls import database_url
from tests.fixtures.app import PASSTHROUGH, app_worker
from tests.fixtures.log_lines import LogLines
from tests.library.dead_letters.test_dead_letter_recording import failed, record_as, rows

MANY = """
    insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
        fingerprint,
                              attempts, told_at)
    select 'acme', 'mail.send', 'workflow', 'acme/mail.send/' || n, 'Broken', 'x',
           '0123456789abcdef', 1, now()
    from generate_series(1, :count) as n
    returning 1
"""


class Inbox:
    """A sink that records its alerts."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


class Broken:
    """A sink that fails."""

    async def send(self, alert: Alert) -> None:
        raise OSError("no way")


class Stuck:
    """A sink that never answers."""

    async def send(self, alert: Alert) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture(autouse=True)
async def here(database: Database) -> AsyncIterator[None]:
    with use_database(database):
        yield


async def an_hour_passes(database: Database) -> None:
    await rows(
        database, "update tenancy.alerts set sent_at = sent_at - interval '61 minutes' returning 1"
    )


async def test_new_letters_of_a_kind_are_one_alert_with_their_number(
    database: Database, inbox: Inbox, log_lines: LogLines
) -> None:
    for key in ("1", "2"):
        await record_as(database, failed(key, at=None), {"to": "secret@example.org"})
    await record_as(database, failed(tenant="globex", at=None), {}, "globex")
    assert await tell_of_dead_letters([inbox]) == 1
    alert = inbox.alerts[0]
    [letter] = await rows(database, "select distinct fingerprint from tenancy.dead_letters")
    assert alert.name == f"dead_letter.{letter.fingerprint}"
    assert alert.summary == "3 of mail.send failed permanently with MailboxFull."
    assert (alert.details["letters"], alert.details["tenants"]) == (3, 2)
    assert "example.org" not in str(alert)
    line = log_lines.one("alert.raised", alert=alert.name)
    assert (line["level"], line["summary"]) == ("critical", alert.summary)
    assert await tell_of_dead_letters([inbox]) == 0


async def test_what_comes_within_the_hour_is_held_back_and_counted(
    database: Database, inbox: Inbox
) -> None:
    await record_as(database, failed("1", at=None))
    await tell_of_dead_letters([inbox])
    for key in ("2", "3"):
        await record_as(database, failed(key, at=None))
    assert await tell_of_dead_letters([inbox]) == 0
    await an_hour_passes(database)
    await record_as(database, failed("4", at=None))
    inbox.alerts.clear()
    await tell_of_dead_letters([inbox])
    assert (inbox.alerts[0].details["letters"], inbox.alerts[0].details["suppressed"]) == (1, 2)
    await an_hour_passes(database)
    await record_as(database, failed("5", at=None))
    inbox.alerts.clear()
    await tell_of_dead_letters([inbox])
    assert "suppressed" not in inbox.alerts[0].details  # they have been reported


async def test_two_kinds_are_two_alerts(database: Database, inbox: Inbox) -> None:
    await record_as(database, failed("1", at=None))
    await record_as(database, Letter("acme/mail.send/2", Source.RELAY, "UnknownJob", "which?", 1))
    assert await tell_of_dead_letters([inbox]) == 2
    assert {a.details["error_type"] for a in inbox.alerts} == {"MailboxFull", "UnknownJob"}


async def test_a_tenant_that_fails_in_very_many_ways_delays_no_other_tenants_alert(
    database: Database, inbox: Inbox
) -> None:
    for number in range(KINDS_AT_ONCE + 20):
        kind = "Odd" + "".join(chr(97 + int(digit)) for digit in str(number))
        await record_as(database, Letter(f"acme/mail.send/{number}", Source.RELAY, kind, "no", 1))
    await record_as(database, failed(tenant="globex", at=None), {}, "globex")
    await tell_of_dead_letters([inbox])
    assert "MailboxFull" in {alert.details.get("error_type") for alert in inbox.alerts}
    assert await tell_of_dead_letters([inbox]) == 21


async def test_too_many_open_letters_are_an_alert(database: Database, inbox: Inbox) -> None:
    await rows(database, MANY, count=DEPTH)
    assert await tell_of_dead_letters([inbox]) == 0
    await record_as(database, failed("one more", at=None))
    await tell_of_dead_letters([inbox])
    assert [alert.name for alert in inbox.alerts][1:] == ["dead_letters.depth"]
    assert inbox.alerts[1].details["open"] == 1_001


async def test_a_letter_that_waits_for_a_day_is_an_alert(database: Database, inbox: Inbox) -> None:
    await rows(database, MANY, count=1)
    for hours, expected in ((23, []), (25, ["dead_letters.age"])):
        await rows(database, "update tenancy.dead_letters set failed_at = now() - "
        "make_interval(hours => "
                   ":hours) returning 1", hours=hours)  # fmt: skip
        await tell_of_dead_letters([inbox])
        assert [alert.name for alert in inbox.alerts] == expected


async def test_a_tenant_that_keeps_letters_old_hides_no_other_tenants(
    database: Database, inbox: Inbox
) -> None:
    old = "update tenancy.dead_letters set failed_at = now() - interval '30 hours' returning 1"
    await rows(database, MANY, count=1)
    await rows(database, old)
    await tell_of_dead_letters([inbox])
    await record_as(database, failed(tenant="globex"), {}, "globex")
    await rows(database, old)
    await tell_of_dead_letters([inbox])
    of_age = [alert for alert in inbox.alerts if alert.name == "dead_letters.age"]
    assert [alert.details["tenant_id"] for alert in of_age] == ["acme", "globex"]
    await tell_of_dead_letters([inbox])  # both again an hour later
    await an_hour_passes(database)
    inbox.alerts.clear()
    await tell_of_dead_letters([inbox])
    [again] = inbox.alerts
    assert (again.details["tenants"], "acme, globex" in again.summary) == (2, True)


def test_an_alert_names_some_tenants_and_counts_the_others() -> None:
    assert named(["a"]) == "a"
    assert named([str(n) for n in range(1_007)]) == "0, 1, 2, 3, 4 and 1,002 more"


async def test_a_sink_that_fails_or_hangs_keeps_no_other_from_telling(
    database: Database, inbox: Inbox, log_lines: LogLines
) -> None:
    await rows(database, MANY.replace("now()", "null"), count=1)
    assert await tell_of_dead_letters([Broken(), Stuck(), inbox], sink_timeout=0.05) == 1
    assert len(inbox.alerts) == 1
    assert {line["sink"] for line in log_lines.all("alert.not_sent")} == {"Broken", "Stuck"}


async def test_two_who_tell_of_the_same_at_once_tell_once(database: Database, inbox: Inbox) -> None:
    await rows(database, MANY.replace("now()", "null"), count=1)
    told = await asyncio.gather(*(tell_of_dead_letters([inbox]) for _ in range(4)))
    assert sorted(told) == [0, 0, 0, 1]


async def test_an_alert_whose_transaction_is_lost_is_sent_again(
    database: Database, inbox: Inbox
) -> None:
    alert = Alert("queue.age", "the oldest message waits.")
    with suppress(RuntimeError):
        async with database.platform_session("test") as session:
            assert await tell(session, alert, [inbox])
            raise RuntimeError
    async with database.platform_session("test") as session:
        assert await tell(session, alert, [inbox])


async def test_the_relay_may_tell_too(database_urls: DatabaseUrls, inbox: Inbox) -> None:
    engine = create_async_engine(database_url(database_urls.relay))
    for expected in (True, False):
        async with AsyncSession(engine) as session, session.begin():
            assert await tell(session, Alert("queue.age", "waits."), [inbox]) is expected
    await engine.dispose()


async def test_the_sweep_tells_by_the_plugins_sinks(
    temporal: TemporalDevServer, namespace: str, database: Database, inbox: Inbox
) -> None:
    await rows(database, MANY.replace("now()", "null"), count=1)
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database),
        database=database,
        passthrough=PASSTHROUGH,
        alerts=[inbox],
    )
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])
    async with app_worker(client, task_queue="default"):
        swept = await client.execute_workflow(
            "dead_letters.sweep", id="platform/dead_letters.sweep/1", task_queue="default"
        )
    assert swept["alerts"] == len(inbox.alerts) == 1
    async with database.platform_session("test") as session:
        assert await session.scalar(text("select count(*) from tenancy.alerts")) == 1
