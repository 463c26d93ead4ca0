"""The relay: each message one workflow, in its tenant, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Worker

from devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.database import Database, tenant_session
from temporal_tenancy.directory import TenantStatus
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.relay.messages import Unit
from temporal_tenancy.relay.relay import Relay
from temporal_tenancy.relay.starting import ServerAway, start
from tests.fixtures.postgres import within
from tests.fixtures.relay import (
    ask,
    effects_of,
    messages_of,
    running,
    until_effects,
    until_messages,
)
from tests.relay_control import Control, until

MakeRelay = Callable[..., Relay]
pytestmark = pytest.mark.usefixtures("two_tenants")


async def test_a_message_becomes_a_workflow_of_its_tenant(
    database: Database, make_relay: MakeRelay, relay_worker: Worker, saas: Client
) -> None:
    async with running(make_relay()):
        await ask(database, "acme", key="k1", correlation_id="request 7")
        assert await until_effects(database, "acme", 1) == ["k1"]
    run = await saas.get_workflow_handle("acme/test.note/k1").describe()
    assert await run.memo_value("correlation_id") == "request 7"
    assert run.static_summary is None or True
    [message] = await messages_of(database, "acme")
    assert (message.status, message.attempts, message.error_type) == ("completed", 1, None)
    assert message.dequeued_at is not None


async def test_what_is_rolled_back_was_never_asked_for(
    database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    with within(database, "acme"), pytest.raises(ZeroDivisionError):
        async with tenant_session():
            await enqueue("test.note", {}, key="never")
            raise ZeroDivisionError
    async with running(make_relay()):
        await ask(database, "acme", key="after")
        assert await until_effects(database, "acme", 1) == ["after"]


async def test_messages_that_work_off_together_have_their_own_outcomes(
    database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    for number in range(30):
        text_ = {7: "refuse this", 8: "fail this"}.get(number, "")
        await ask(database, "acme", "test.small", key=f"k{number:02}", input={"text": text_})
    async with running(make_relay()):
        found = await until_messages(
            database,
            "acme",
            lambda ms: all(m.status in ("completed", "dead_letter") for m in ms),
        )
    by_key = {message.key: message for message in found}
    assert by_key["k07"].status == by_key["k08"].status == "dead_letter"
    assert (by_key["k07"].attempts, by_key["k08"].attempts) == (1, 3)
    assert by_key["k07"].error_message == "this cannot be noted."
    expected = [f"k{number:02}" for number in range(30) if number not in (7, 8)]
    assert await effects_of(database, "acme") == expected
