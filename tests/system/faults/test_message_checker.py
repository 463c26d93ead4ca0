"""The checker accepts correct messages, and finds each fault in others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import make_url
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.load import make_up_tenants
from saas.queues import Queue
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.database import Database
from tests.fixtures.relay import running
from tests.fixtures.saas import saas_worker
from tests.system.faults.checker import Rows
from tests.system.faults.message_asks import Plan, ask, plan
from tests.system.faults.message_checker import Asked, problems
from tests.system.faults.message_jobs import ACTIVITIES, WORKFLOWS, CountAlone, Counted

SEED = 1
TOGETHER_0 = "job = 'test.counted_together' and key = 's1-0-0'"
ALONE_0 = "job = 'test.counted' and key = 's1-0-0'"

# The change to the database, and the checker's sentence.
WRONG = {
    "an effect twice": (
        """
        insert into audit_entries (tenant_id, actor, action, subject, details)
        select tenant_id, actor, action, subject, details from audit_entries
         where tenant_id = 't00002' and subject = 'test.counted/s1-0-0'
        """,
        "t00002/test.counted/s1-0-0 has 2 effects, not 1.",
    ),
    "a lost effect": (
        """
        delete from audit_entries
         where tenant_id = 't00002' and subject = 'test.counted_together/s1-0-0'
        """,
        "t00002/test.counted_together/s1-0-0 has 0 effects, not 1.",
    ),
    "another tenant's effect": (
        """
        update audit_entries set tenant_id = 't00003'
         where tenant_id = 't00002' and subject = 'test.counted/s1-0-0'
        """,
        "t00003/test.counted/s1-0-0 has 2 effects, not 1.",
    ),
    "an effect for another tenant": (
        """
        update audit_entries set details = '{"owner": "t00003"}'
         where tenant_id = 't00002' and subject = 'test.counted/s1-0-0'
        """,
        "t00002/test.counted/s1-0-0 was asked for by t00003, and done by t00002.",
    ),
    "an effect by another tenant": (
        """
        update audit_entries set actor = 't00003/test.counted/s1-0-0'
         where tenant_id = 't00002' and subject = 'test.counted/s1-0-0'
        """,
        "t00002/test.counted/s1-0-0 was asked for by t00002, and done by t00003.",
    ),
    "an effect of what was rolled back": (
        """
        insert into audit_entries (tenant_id, actor, action, subject, details)
        values ('t00002', 't00002/x', 'counted', 'test.counted/s1-never-0', '{"owner": "t00002"}')
        """,
        "t00002/test.counted/s1-never-0 has 1 effects, not 0.",
    ),
    "an effect of poison": (
        """
        insert into audit_entries (tenant_id, actor, action, subject, details)
        select tenant_id, workflow_id, 'counted', job || '/' || split_part(workflow_id, '/', 3),
               jsonb_build_object('owner', tenant_id)
          from tenancy.dead_letters where tenant_id = 't00002' and workflow_id like '%/s1-0-%'
        """,
        "has 1 effects, not 0.",
    ),
    "an event that is not noted": (
        """
        delete from tenancy.processed_events
         where tenant_id = 't00002' and consumer = 'test.counted' and event_id = 's1-0-0'
        """,
        "t00002/test.counted/s1-0-0 has 0 processed events, not 1.",
    ),
    "an event of another tenant's": (
        """
        update tenancy.processed_events set tenant_id = 't99999'
         where tenant_id = 't00002' and consumer = 'test.counted' and event_id = 's1-0-0'
        """,
        "t99999/test.counted/s1-0-0 has 1 processed events, not 0.",
    ),
    "a lost message": (
        f"delete from tenancy.outbox_messages where tenant_id = 't00002' and {ALONE_0}",
        "t00002/test.counted/s1-0-0 is lost.",
    ),
    "a message that waits": (
        f"update tenancy.outbox_messages set status = 'failed' where tenant_id = 't00002' and "
        f"{ALONE_0}",
        "t00002/test.counted/s1-0-0 has not come to an end: ['failed'].",
    ),
    "a message that was rolled back": (
        f"""
        update tenancy.outbox_messages set key = 's1-never-0' where tenant_id = 't00002' and
            {ALONE_0}
        """,
        "t00002/test.counted/s1-never-0 was never asked for: ['completed'].",
    ),
    "a message of another tenant's": (
        f"update tenancy.outbox_messages set tenant_id = 't99999' where tenant_id = 't00002' and "
        f"{ALONE_0}",
        "t99999/test.counted/s1-0-0 was never asked for: ['completed'].",
    ),
    "a message that is two": (
        f"""
        insert into tenancy.outbox_messages (tenant_id, job, key, payload, status)
        select tenant_id, job, key, payload, 'dead_letter' from tenancy.outbox_messages
         where tenant_id = 't00002' and {ALONE_0}
        """,
        "t00002/test.counted/s1-0-0 is not completed once: ['completed', 'dead_letter'].",
    ),
    "a message in another tenant's workflow": (
        f"""
        alter table tenancy.outbox_messages drop constraint ck_outbox_messages_owner;
        update tenancy.outbox_messages set workflow_id = 't00003/test.counted_together/messages-1'
         where tenant_id = 't00002' and {TOGETHER_0}
        """,
        "t00002/test.counted_together/s1-0-0 is worked off by t00003.",
    ),
    "poison that is no dead letter": (
        """
        update tenancy.outbox_messages set status = 'completed'
         where tenant_id = 't00002' and key = 's1-0-poison'
        """,
        "is no dead letter: ['completed'",
    ),
    "a lost letter": (
        "delete from tenancy.dead_letters where tenant_id = 't00002' and workflow_id like "
        "'%/s1-0-%'",
        "has 0 dead letters, not 1.",
    ),
    "a letter too many": (
        """
        insert into tenancy.dead_letters (
            tenant_id, job, source, workflow_id, error_type, message, fingerprint, attempts,
            failed_at
        )
        values (
            't00002', 'test.counted', 'relay', 't00002/test.counted/s1-0-0', 'WorkflowLost', 'so',
            '0123456789abcdef', 1, now()
        )
        """,
        "t00002/test.counted/s1-0-0 is a dead letter: ('relay', 'WorkflowLost', 'open').",
    ),
    "another tenant's letter": (
        """
        alter table tenancy.dead_letters drop constraint ck_dead_letters_owner;
        update tenancy.dead_letters set tenant_id = 't00003', message_id = null
         where tenant_id = 't00002' and workflow_id like '%/s1-0-%'
        """,
        "is the dead letter of t00002's.",
    ),
    "a letter without its input": (
        """
        update tenancy.dead_letters set message_id = gen_random_uuid()
         where tenant_id = 't00002' and workflow_id like '%/s1-0-%'
        """,
        "is a dead letter without a message.",
    ),
    "a letter with another reason": (
        """
        update tenancy.dead_letters set error_type = 'RelayLost'
         where tenant_id = 't00002' and workflow_id like '%/s1-0-%'
        """,
        "'RelayLost', 'open') as a dead letter.",
    ),
    "a message that a dead relay has": (
        f"""
        update tenancy.outbox_messages set status = 'processing', lease_until = now() - interval '1
            second'
         where tenant_id = 't00002' and {ALONE_0}
        """,
        "t00002/test.counted/s1-0-0 is claimed past its lease.",
    ),
    "a slot of what has ended": (
        """
        insert into tenancy.in_flight (tenant_id, workflow_id)
        values ('t00002', 't00002/test.counted/s1-0-0')
        """,
        "t00002 has a slot for t00002/test.counted/s1-0-0, which does not run.",
    ),
    "a run for another message": (
        f"""
        update tenancy.outbox_messages set id = uuidv7() where tenant_id = 't00002' and {ALONE_0}
        """,
        "t00002/test.counted/s1-0-0 was started for None.",
    ),
}


@pytest.fixture
async def asked(
    saas: Client, database: Database, make_relay: Callable[..., Relay]
) -> AsyncIterator[Asked]:
    """Correctly handled messages."""
    tenants = await make_up_tenants(database, 3)
    wanted: Plan = plan(SEED, tenants)
    asked = Asked.of(wanted, datetime.now(UTC))
    async with saas_worker(saas, workflows=WORKFLOWS, activities=ACTIVITIES), running(make_relay()):
        await ask(database, [*wanted.before, *wanted.meanwhile])
        yield asked


@pytest.fixture
async def everything(asked: Asked, database_urls: DatabaseUrls) -> AsyncIterator[Rows]:
    """The superuser's connection; its open transaction is rolled back."""
    url = make_url(database_urls.superuser).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False), row_factory=dict_row
    ) as connection:
        yield connection
        await connection.rollback()


async def until_right(everything: Rows, saas: Client, asked: Asked) -> None:
    """Waits until the checker finds nothing wrong."""
    while await problems(everything, saas, asked, settle=0.0):  # others handle it
        await everything.rollback()
        await asyncio.sleep(0.2)


async def test_it_finds_each_wrong_and_nothing_else(
    everything: Rows, asked: Asked, saas: Client
) -> None:
    async with asyncio.timeout(60):
        await until_right(everything, saas, asked)
    missed = []
    for name, (wrong, sentence) in WRONG.items():
        await everything.execute("set session_replication_role = 'replica'")  # no constraints
        await everything.execute(wrong)
        found = await problems(everything, saas, asked, settle=0.0)
        await everything.rollback()
        if not any(sentence in each for each in found):
            missed.append((name, found))
    assert missed == []


async def test_it_finds_runs_that_should_not_be(
    everything: Rows, asked: Asked, saas: Client
) -> None:
    async with asyncio.timeout(60):
        await until_right(everything, saas, asked)
    never = "t00002/test.counted/s1-never-0"
    await saas.execute_workflow(
        CountAlone.run,
        Counted(tenant_id="t00002", owner="t00002"),
        id=never,
        task_queue=Queue.BULK,
    )
    await saas.start_workflow(
        CountAlone.run,
        Counted(tenant_id="t00003", owner="t00003"),
        id="t00003/test.counted/s1-open",
        task_queue="nobody",
    )
    expected = {f"{never} has 1 successful runs, not 0.", "t00003/test.counted/s1-open is open."}
    async with asyncio.timeout(30):  # the list lags
        while not expected <= set(await problems(everything, saas, asked, settle=0.0)):
            await everything.rollback()
