"""A relay or a worker that hangs: it keeps its connections, and only a doctor's probe finds it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from saas.queues import Queue
from temporal_tenancy.cli import Application, Login, Program, use_program
from temporal_tenancy.cli._probe_checks import probe_checks
from temporal_tenancy.cli._verdicts import Check
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database
from tests.fixtures.worker_process import StartWorker

QUEUE = Queue.DEFAULT
ANSWERED = timedelta(seconds=30)  # by what does not hang, on a busy machine
HANGS = timedelta(seconds=2)


@pytest.fixture
async def doctor(
    temporal: TemporalDevServer, namespace: str, database_urls: DatabaseUrls
) -> AsyncIterator[None]:
    """The reference SaaS's doctor, for one of its queues."""
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[TenancyPlugin()])

    async def connect(_: Database | None) -> Client:
        return client

    def load() -> Application:
        return Application(
            connect=connect,
            database=lambda: Database(platform_url=database_urls.platform),
            tenant=Login("TENANT_DATABASE_URL", database_urls.tenant),
            platform=Login("PLATFORM_DATABASE_URL", database_urls.platform),
            relay=Login("RELAY_DATABASE_URL", database_urls.relay),
            owner=Login("DATABASE_URL"),
            queues=[QUEUE],
        )

    with use_program(Program(load=load)):
        yield


async def checks(patience: timedelta) -> tuple[Check, Check]:
    """Returns the checks of the relay and of the queue's workers."""
    found = {check.name: check for check in await probe_checks(patience)}
    return found["relay"], found[f"workers of {QUEUE}"]


async def test_a_stopped_relay_and_a_stopped_worker_are_named(
    doctor: None, start_worker: StartWorker, database_urls: DatabaseUrls
) -> None:
    worker = start_worker("--queue", QUEUE, "--identity", "the-worker")
    relay = start_worker("--relay", RELAY_DATABASE_URL=database_urls.relay)
    await asyncio.gather(worker.until_ready(), relay.until_ready())
    told = await checks(ANSWERED)
    assert [str(check.verdict) for check in told] == ["ok", "ok"]

    relay.send(signal.SIGSTOP)
    of_relay, of_worker = await checks(HANGS)
    relay.send(signal.SIGCONT)
    assert str(of_relay.verdict) == "failed"
    assert of_relay.message.endswith("to the database: they hang. Restart them.")
    assert str(of_worker.verdict) == "ok"

    worker.send(signal.SIGSTOP)
    of_relay, of_worker = await checks(timedelta(seconds=4))
    worker.send(signal.SIGCONT)
    assert str(of_relay.verdict) == "ok"
    assert str(of_worker.verdict) == "failed"
    assert of_worker.message.startswith("the-worker took a probe from the queue and did not answer")
