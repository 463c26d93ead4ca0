"""A message that kills its worker each time becomes a dead letter, and harms no other."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from tests.fixtures.relay import ask, running, until_messages
from tests.fixtures.worker_process import StartWorker
from tests.system.faults.message_jobs import AT_ONCE, DIE, TOGETHER

MODULE = "tests.system.faults.message_process"
MESSAGES = 30
DEADLY = "m12"
ATTEMPTS = 2


def effects(urls: DatabaseUrls) -> list[str]:
    """Returns the keys of the messages that took effect, once per effect."""
    with connect(urls.superuser) as everything:
        rows = everything.execute(
            "select split_part(subject, '/', 2) from audit_entries where action = 'counted'"
        )
        return sorted(key for (key,) in rows)


def letters(urls: DatabaseUrls) -> list[tuple[object, ...]]:
    """Returns the dead letters' workflow ids, sources and messages."""
    with connect(urls.superuser) as everything:
        found = everything.execute(
            "select workflow_id, source, message_id from tenancy.dead_letters"
        )
        return found.fetchall()


@pytest.mark.parametrize("job", [TOGETHER, AT_ONCE])
async def test_a_message_that_kills_its_worker_is_a_dead_letter_and_no_other_is_harmed(
    saas: Client,
    database: Database,
    database_urls: DatabaseUrls,
    tenants: Tenants,
    make_relay: Callable[..., Relay],
    start_worker: StartWorker,
    job: str,
) -> None:
    await tenants.add("acme", "Acme", plan="standard")
    keys = [f"m{number:02}" for number in range(MESSAGES)]
    for key in keys:
        asked = {"owner": "acme", "how": DIE if key == DEADLY else ""}
        await ask(database, "acme", job, key=key, input=asked)
    async with running(make_relay(ladder=RetryLadder(attempts=ATTEMPTS))):
        for _ in range(ATTEMPTS):
            assert await start_worker("--queue", "bulk", module=MODULE).exit_code() == 1
        last = await start_worker("--queue", "bulk", module=MODULE).until_ready()
        found = await until_messages(
            database, "acme", lambda ms: {m.status for m in ms} <= {"completed", "dead_letter"}
        )
    last.send(signal.SIGTERM)
    assert await last.exit_code() == 0
    assert "message.dead" in last.text
    others = [key for key in keys if key != DEADLY]
    harmed = {
        message.key: (message.status, message.error_type, message.error_message, message.attempts)
        for message in found
        if message.key != DEADLY and message.status != "completed"
    }
    assert not harmed
    assert len(found) == MESSAGES
    assert effects(database_urls) == others
    [deadly] = [message for message in found if message.key == DEADLY]
    assert (deadly.error_type, deadly.attempts) == ("WorkerLost", ATTEMPTS + 1)
    assert letters(database_urls) == [(f"acme/{job}/{DEADLY}", "message", deadly.id)]
