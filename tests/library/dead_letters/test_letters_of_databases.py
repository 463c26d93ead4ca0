"""A letter is in the control plane, its input in a tenant's own database: nothing parts them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.dead_letters.recording import Letter, Payload, Source, record
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.apart import Apart
from tests.fixtures.postgres import within

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FOREIGN_ID = UUID("ffffffff-ffff-4fff-bfff-ffffffffffff")  # no message may have such an id


class Crash(Exception):
    """The process is gone."""


def failed(run: str, *, minutes: int = 0) -> Letter:
    return Letter(
        "acme/mail.send/1",
        Source.WORKFLOW,
        "MailboxFull",
        "the mailbox is full.",
        attempts=3,
        run_id=run,
        failed_at=NOON + timedelta(minutes=minutes),
    )


async def record_as_acme(
    database: Database, letter: Letter, payload: Payload, *, crash: bool = False
) -> bool:
    with within(database, "acme"):
        async with tenant_session() as session:
            new = await record(session, letter, payload)
            if crash:
                raise Crash
    return new


@pytest.fixture
async def store(apart: Apart) -> DatabaseUrls:
    """The database of acme."""
    return await apart.add("acme")


@pytest.fixture
def in_store(store: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with connect(store.superuser) as superuser:
        yield superuser


@pytest.fixture
def in_control_plane(apart: Apart) -> Iterator[psycopg.Connection[Any]]:
    with connect(apart.urls.superuser) as superuser:
        yield superuser


def inputs(in_store: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return in_store.execute("select id, payload from tenancy.outbox_messages").fetchall()


def named_in(in_control_plane: psycopg.Connection[Any]) -> UUID:
    """Returns the message that the one letter names."""
    named = in_control_plane.execute("select message_id from tenancy.dead_letters")
    [(message_id,)] = named.fetchall()
    return cast(UUID, message_id)


async def test_an_input_that_a_crash_has_left_out_is_stored_by_the_next_try(
    apart: Apart,
    in_store: psycopg.Connection[Any],
    in_control_plane: psycopg.Connection[Any],
) -> None:
    with pytest.raises(Crash):
        await record_as_acme(apart.database, failed("r1"), {"to": "x"}, crash=True)
    assert inputs(in_store) == []
    assert not await record_as_acme(apart.database, failed("r1"), {"to": "x"})
    assert inputs(in_store) == [(named_in(in_control_plane), {"to": "x"})]


async def test_who_is_overtaken_by_a_later_run_takes_its_input_back(
    apart: Apart,
    in_store: psycopg.Connection[Any],
    in_control_plane: psycopg.Connection[Any],
) -> None:
    await record_as_acme(apart.database, failed("r1"), {"to": "first"})
    in_store.execute("begin; select from tenancy.outbox_messages for update")
    slow = asyncio.create_task(
        record_as_acme(apart.database, failed("r2", minutes=1), {"to": "overtaken"})
    )
    while not in_control_plane.execute(  # noqa: ASYNC110
        "select from tenancy.dead_letters where run_id = 'r2'"
    ).fetchall():
        await asyncio.sleep(0.01)
    in_store.execute('update tenancy.outbox_messages set payload = \'{"to": "last"}\'')
    in_control_plane.execute("update tenancy.dead_letters set run_id = 'r3'")
    in_store.execute("commit")
    assert await slow
    assert [payload for _, payload in inputs(in_store)] == [{"to": "last"}]


async def test_a_letter_whose_id_no_message_may_have_keeps_its_input_too(
    apart: Apart,
    in_store: psycopg.Connection[Any],
    in_control_plane: psycopg.Connection[Any],
) -> None:
    with pytest.raises(Crash):
        await record_as_acme(apart.database, failed("r1"), {"to": "x"}, crash=True)
    in_control_plane.execute(
        "update tenancy.dead_letters set id = %s, message_id = null", [FOREIGN_ID]
    )
    await record_as_acme(apart.database, failed("r1"), {"to": "x"})
    assert inputs(in_store) == [(named_in(in_control_plane), {"to": "x"})]
