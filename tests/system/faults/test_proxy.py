"""The proxy cuts a connection after a COMMIT: it is done, and the client does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import make_url

from dev.devstack.postgres import SUPERUSER, DatabaseUrls
from tests.system.faults.proxy import CommitProxy


@pytest.fixture
async def proxy(database_urls: DatabaseUrls) -> AsyncIterator[CommitProxy]:
    async with await CommitProxy().start(make_url(database_urls.superuser).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def through(
    proxy: CommitProxy, database_urls: DatabaseUrls
) -> AsyncIterator[psycopg.AsyncConnection]:
    """Opens a connection through the proxy."""
    url = make_url(database_urls.superuser).set(drivername="postgresql", port=proxy.port)
    async with await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False)
    ) as connection:
        await connection.execute("create table notes (note int)")
        await connection.commit()
        yield connection
        await connection.close()


async def notes(database_urls: DatabaseUrls) -> list[int]:
    """Returns what is committed."""
    url = make_url(database_urls.superuser).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False)
    ) as connection:
        found = await connection.execute("select note from notes order by note")
        return [note for (note,) in await found.fetchall()]


@pytest.mark.parametrize("extended", [False, True])
async def test_the_armed_commit_is_done_and_its_client_does_not_know(
    proxy: CommitProxy,
    through: psycopg.AsyncConnection,
    database_urls: DatabaseUrls,
    extended: bool,
) -> None:
    proxy.arm(SUPERUSER, 2)
    await through.execute("insert into notes values (1)")
    await through.commit()
    assert not proxy.cut.is_set()
    await through.execute("insert into notes values (2)")
    with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
        await commit(through, extended=extended)
    assert proxy.cut.is_set()
    assert await notes(database_urls) == [1, 2]


async def commit(connection: psycopg.AsyncConnection, *, extended: bool) -> None:
    if extended:
        await connection.execute("COMMIT", prepare=True)
    else:
        await connection.commit()


async def test_another_role_and_a_disarmed_proxy_cut_nothing(
    proxy: CommitProxy, through: psycopg.AsyncConnection, database_urls: DatabaseUrls
) -> None:
    proxy.arm("somebody_else", 1)
    await through.execute("insert into notes values (1)")
    await through.commit()
    proxy.arm(SUPERUSER, 1)
    proxy.disarm()
    await through.execute("insert into notes values (2)")
    await through.commit()
    assert not proxy.cut.is_set()
    assert await notes(database_urls) == [1, 2]
