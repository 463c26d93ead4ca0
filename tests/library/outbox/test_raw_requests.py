"""Requests and events in a `tenant_transaction()` on a raw connection, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from psycopg.types.string import TextLoader

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.errors import InvalidPayload, ScopeMissing, TenantMismatch, UnknownJob
from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.outbox import (
    KeyTaken,
    MessageStatus,
    PayloadTooLarge,
    enqueue_in,
    enqueue_many_in,
    once_in,
)
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.raw_session import RawConnection
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.relay import messages_of, running, until_messages
from tests.library.outbox.test_relay import plain_url

FAR = datetime(9998, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("two_tenants")


@pytest.fixture(params=["sync", "async"])
async def connection(
    request: pytest.FixtureRequest, database_urls: DatabaseUrls
) -> AsyncIterator[RawConnection]:
    url = plain_url(database_urls.tenant)
    if request.param == "sync":
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
    else:
        async with await psycopg.AsyncConnection.connect(url) as other:
            yield other


@asynccontextmanager
async def block(connection: RawConnection, tenant: str = "acme") -> AsyncIterator[None]:
    with enter(TenantScope(tenant)):
        if isinstance(connection, psycopg.AsyncConnection):
            async with tenant_transaction(connection):
                yield
        else:
            with tenant_transaction(connection):
                yield


async def ask(
    connection: RawConnection, job: str, input: Mapping[str, Any], **options: Any
) -> UUID:
    if isinstance(connection, psycopg.AsyncConnection):
        return await enqueue_in(connection, job, input, **options)
    return enqueue_in(connection, job, input, **options)


async def ask_for_several(
    connection: RawConnection, inputs: Sequence[Mapping[str, Any]], **options: Any
) -> list[UUID]:
    if isinstance(connection, psycopg.AsyncConnection):
        return await enqueue_many_in(connection, "test.note", inputs, **options)
    return enqueue_many_in(connection, "test.note", inputs, **options)


async def record(connection: RawConnection, event: str) -> bool:
    if isinstance(connection, psycopg.AsyncConnection):
        return await once_in(connection, "consumer", event)
    return once_in(connection, "consumer", event)


async def test_a_request_is_written_with_the_transactions_rows(
    connection: RawConnection, database: Database
) -> None:
    async with block(connection):
        id = await ask(
            connection,
            "test.note",
            {"text": "100%"},
            key="k",
            at=FAR,
            priority=JobPriority.HIGH,
            correlation_id="upload 7",
        )
        keyless = await ask(connection, "test.note", {})
    first, second = sorted(await messages_of(database, "acme"), key=lambda each: each.id)
    assert (first.id, first.key, first.scheduled_at) == (id, "k", FAR)
    assert (first.payload["text"], first.priority) == ("100%", JobPriority.HIGH)
    assert (first.correlation_id, first.status) == ("upload 7", MessageStatus.PENDING)
    assert (second.id, second.key) == (keyless, str(keyless))


async def test_a_rollback_loses_it(connection: RawConnection, database: Database) -> None:
    async with block(connection):
        await ask(connection, "test.note", {})
        assert await record(connection, "e1")
        raise psycopg.Rollback
    async with block(connection):
        assert await record(connection, "e1")
    assert await messages_of(database, "acme") == []


async def test_the_same_key_is_one_message_and_another_input_is_refused(
    connection: RawConnection, database: Database
) -> None:
    given = {"text": "first", "data": [1e300]}
    async with block(connection):
        first = await ask(connection, "test.note", given, key="k")
    async with block(connection):
        assert await ask(connection, "test.note", given, key="k") == first
        with pytest.raises(KeyTaken, match="pending"):
            await ask(connection, "test.note", {"text": "second"}, key="k")
    async with block(connection, "globex"):
        assert await ask(connection, "test.note", {}, key="k") != first
    assert [each.id for each in await messages_of(database, "acme")] == [first]


async def test_several_requests_are_one_statement_and_all_or_none(
    connection: RawConnection, database: Database
) -> None:
    async with block(connection):
        ids = await ask_for_several(connection, [{"text": "a"}, {"text": "b"}], keys=["a", None])
    found = await messages_of(database, "acme")
    assert [(each.id, each.payload["text"]) for each in found] == list(
        zip(ids, ["a", "b"], strict=True)
    )
    async with block(connection):
        with pytest.raises(KeyTaken, match=r"acme/test\.note/a .* None of the 3 requests"):
            await ask_for_several(
                connection, [{}, {"text": "x"}, {"text": "c"}], keys=[None, "a", "c"]
            )
        with pytest.raises(ValueError, match="argument 2"):
            await ask_for_several(connection, [{}], keys=[])
    assert [each.id for each in await messages_of(database, "acme")] == ids


async def test_a_stored_payload_that_nobody_can_read_is_another_input(
    connection: RawConnection, database_urls: DatabaseUrls
) -> None:
    async with block(connection):
        await ask(connection, "test.note", {}, key="k")
    with connect(database_urls.superuser) as superuser:
        superuser.execute("update tenancy.outbox_messages set payload = '7'")
    async with block(connection):
        with pytest.raises(KeyTaken):
            await ask(connection, "test.note", {}, key="k")
        assert await record(connection, "e1")  # the transaction still works


REFUSED: Final[list[tuple[str, dict[str, Any], dict[str, Any], type[Exception]]]] = [
    ("test.note", {"text": 7}, {}, InvalidPayload),
    ("test.note", {"text": "\0"}, {}, InvalidPayload),
    ("test.note", {"text": "x" * 70_000}, {}, PayloadTooLarge),
    ("test.note", {"tenant_id": "globex"}, {}, TenantMismatch),
    ("test.note", {}, {"key": "\n"}, TenantMismatch),
    ("test.note", {}, {"at": datetime(2026, 1, 1)}, InvalidPayload),  # noqa: DTZ001
    ("test.note", {}, {"correlation_id": "two\nlines"}, InvalidPayload),
    ("test.nothing", {}, {}, UnknownJob),
]


async def test_a_request_is_checked_as_in_a_session(
    connection: RawConnection, database: Database
) -> None:
    async with block(connection):
        for job, given, options, error in REFUSED:
            with pytest.raises(error):
                await ask(connection, job, given, **options)
    assert await messages_of(database, "acme") == []


async def test_an_event_is_new_once_for_each_tenant(connection: RawConnection) -> None:
    for tenant in ("acme", "globex"):
        async with block(connection, tenant):
            assert await record(connection, "e1")
        async with block(connection, tenant):
            assert not await record(connection, "e1")
            assert await record(connection, "e2")


async def test_without_the_tenants_transaction_nothing_is_requested(
    connection: RawConnection,
) -> None:
    with enter(TenantScope("acme")), pytest.raises(ScopeMissing, match="no transaction of a"):
        await ask(connection, "test.note", {})
    scope = enter(TenantScope("acme"))
    scope.__enter__()
    with pytest.raises(ScopeMissing):  # the scope has closed
        await _request_after(connection, lambda: scope.__exit__(None, None, None))
    if isinstance(connection, psycopg.AsyncConnection):
        return
    with (
        enter(TenantScope("acme")),
        pytest.raises(ScopeMissing, match="ended the transaction"),
        tenant_transaction(connection),
    ):
        connection.execute("commit")
        enqueue_in(connection, "test.note", {})


async def _request_after(connection: RawConnection, leave: Callable[[], object]) -> None:
    if isinstance(connection, psycopg.AsyncConnection):
        async with tenant_transaction(connection):
            leave()
            await ask(connection, "test.note", {})
    else:
        with tenant_transaction(connection):
            leave()
            await ask(connection, "test.note", {})


async def test_a_connection_that_reads_other_types_changes_nothing(
    connection: RawConnection,
) -> None:
    for name in ("uuid", "timestamptz", "bool"):
        connection.adapters.register_loader(name, TextLoader)
    async with block(connection):
        first = await ask(connection, "test.note", {}, key="k")
        assert isinstance(first, UUID)
        assert await ask(connection, "test.note", {}, key="k") == first


async def test_a_relay_starts_what_was_requested(
    connection: RawConnection, database: Database, make_relay: Callable[..., Relay]
) -> None:
    async def take(*_: object) -> None:
        """A replacement for Temporal."""

    async with running(make_relay(deliver=take)):
        async with block(connection):
            await ask(connection, "test.note", {})
        found = await until_messages(
            database, "acme", lambda all: MessageStatus.COMPLETED in {each.status for each in all}
        )
    assert len(found) == 1
