"""Databases whose names are not those that most people give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.outbox.relay._listening import listen
from temporal_tenancy.postgres.connections import answers, answers_soon, connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.migrations import migrate

NAMES = ["my shop", "a=b'", "50% caf\u00e9"]


@pytest.fixture(params=NAMES)
def urls(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[DatabaseUrls]:
    yield postgres.create_database(request.param)
    postgres.drop_database(request.param)


async def test_each_way_to_connect_finds_it(urls: DatabaseUrls) -> None:
    migrate(urls.owner, tenant_url=urls.tenant, platform_url=urls.platform, relay_url=urls.relay)
    with connect(urls.owner) as owner:
        name = owner.info.dbname
    assert name in NAMES
    assert answers(urls.platform)
    assert await answers_soon(urls.platform)
    heard = asyncio.Event()
    listening = asyncio.create_task(listen(urls.relay, heard))
    await asyncio.wait_for(heard.wait(), 30)
    listening.cancel()
    database = Database(platform_url=urls.platform)
    async with database.platform_session("a test") as session:
        assert await session.scalar(text("select current_database()")) == name
    await database.dispose()
