"""A relay that is told to stop ends, whatever the database or the client does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import make_url
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.outbox.relay import relay as relaying
from temporal_tenancy.outbox.relay.messages import Unit
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.postgres.database import Database
from tests.fixtures.relay import OPTIONS, ask, messages_of
from tests.fixtures.silence import SilentProxy

MakeRelay = Callable[..., Relay]
IN_TIME = 10.0  # seconds
SOON = timedelta(seconds=0.2)

pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "CUT_FAILS", 0.3)
    monkeypatch.setattr(relaying, "CUT_ENDS", 0.3)


@pytest.fixture
async def proxy(database_urls: DatabaseUrls) -> AsyncIterator[SilentProxy]:
    port = make_url(database_urls.relay).port
    assert port is not None
    async with SilentProxy(port).serving() as proxy:
        yield proxy


async def stopped(relay: Relay, working: asyncio.Task[None]) -> None:
    relay.stop()
    async with asyncio.timeout(IN_TIME):
        await asyncio.wait((working,))
    assert relay.is_shutdown


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the relay's own errors; SQLAlchemy logs one for a connection that was cut."""
    return [
        each.message
        for each in caplog.records
        if each.levelname == "ERROR" and each.name.startswith("temporal_tenancy.outbox")
    ]


async def test_a_relay_ends_whose_database_has_fallen_silent(
    database: Database,
    database_urls: DatabaseUrls,
    relay_client: Client,
    proxy: SilentProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def take(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        proxy.silent.set()

    url = make_url(database_urls.relay).set(host="127.0.0.1", port=proxy.port)
    options = replace(OPTIONS, stop_within=SOON)
    relay = Relay(
        relay_client, url.render_as_string(hide_password=False), options=options, deliver=take
    )
    working = asyncio.create_task(relay.run())
    await relay.until_running()
    await ask(database, "acme", key="k")
    await proxy.silent.wait()
    await stopped(relay, working)
    assert working.exception() is None
    assert errors(caplog) == ["relay.cut"]
    assert [each.status for each in await messages_of(database, "acme")] == ["processing"]


async def test_a_relay_ends_whose_starts_do_not(
    database: Database, make_relay: MakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def hang(client: Client, unit: Unit, ladder: RetryLadder) -> None:
        while not go_on.is_set():
            began.set()
            with suppress(asyncio.CancelledError):  # as code that loses every cancellation
                await go_on.wait()

    await ask(database, "acme", key="k")
    relay = make_relay(deliver=hang, stop_within=SOON)
    working = asyncio.create_task(relay.run())
    await began.wait()
    await stopped(relay, working)
    assert working.exception() is None
    assert errors(caplog) == ["relay.cut", "relay.tasks_abandoned"]
    go_on.set()


async def test_a_relay_ends_at_once_whose_duties_lose_cancellations(
    make_relay: MakeRelay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Python 3.11 with a psycopg before 3.3.6."""
    did = asyncio.Event()

    async def prune() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        did.set()

    relay = make_relay()
    monkeypatch.setattr(relay._upkeep, "prune", prune)
    working = asyncio.create_task(relay.run())
    await relay.until_running()
    await did.wait()
    await stopped(relay, working)
    assert working.exception() is None
    assert errors(caplog) == []


async def test_a_relay_whose_task_fails_ends_with_its_error(
    make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise LookupError("a bug")

    relay = make_relay()
    monkeypatch.setattr(relay, "_claim", fail)
    async with asyncio.timeout(IN_TIME):
        with pytest.raises(LookupError, match="a bug"):
            await relay.run()
    assert relay.is_shutdown


async def test_a_relay_that_is_cancelled_ends(make_relay: MakeRelay) -> None:
    relay = make_relay()
    working = asyncio.create_task(relay.run())
    await relay.until_running()
    working.cancel()
    async with asyncio.timeout(IN_TIME):
        await asyncio.wait((working,))
    assert working.cancelled()
    assert relay.is_shutdown
