"""The library's own `uuidv7()`, for servers that have none: RFC 9562, in the order of making."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.uuids import UUIDV7


@pytest.fixture
def ours(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A connection with the function, beside the server's own if it has one."""
    with connect(postgres.urls("postgres").superuser) as superuser:
        superuser.execute(
            f"create function pg_temp.uuidv7() returns uuid language sql as $${UUIDV7}$$"
        )
        yield superuser


def test_it_is_a_uuid_of_version_7_with_the_time_of_its_making(
    ours: psycopg.Connection[Any],
) -> None:
    made = ours.execute("select pg_temp.uuidv7(), clock_timestamp()").fetchone()
    assert made is not None
    id, now = made
    assert (id.version, id.variant) == (7, "specified in RFC 4122")
    at = datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
    assert 0 <= (now - at).total_seconds() < 1


def test_they_are_in_the_order_of_their_making_and_no_two_are_equal(
    ours: psycopg.Connection[Any],
) -> None:
    made = ours.execute("""
        with recursive several as (
            select pg_temp.uuidv7() as id, 1 as number, pg_sleep(0.000002)
            union all
            select pg_temp.uuidv7(), number + 1, pg_sleep(0.000002) from several where number < 2000
        )
        select id from several order by number
    """).fetchall()
    ids = [id for (id,) in made]
    assert ids == sorted(ids)
    assert len(set(ids)) == 2000
    assert len({id.bytes[8:] for id in ids}) == 2000


def test_the_search_path_does_not_change_it(ours: psycopg.Connection[Any]) -> None:
    with ours.transaction(force_rollback=True):
        ours.execute("""
            create schema mine;
            create function mine.encode(bytea, text) returns text language sql as 'select ''no''';
            set local search_path to mine, pg_catalog
        """)
        assert ours.execute("select pg_temp.uuidv7()").fetchone() is not None
