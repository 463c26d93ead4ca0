"""A PostgreSQL server that falls silent ends a command soon, and a slow statement does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import make_url, text

from dev.devstack.ports import LOOPBACK
from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.cli import Advice, Login, NotReachable, Program, doctor, reaching, use_program
from temporal_tenancy.cli._database_checks import database_checks
from temporal_tenancy.cli._failures import report
from temporal_tenancy.cli._verdicts import Verdict
from temporal_tenancy.cli.answers import Answer, perform
from temporal_tenancy.cli.program import Application
from temporal_tenancy.postgres import connections, silent_servers
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.silent_servers import (
    SILENT,
    SilenceWatch,
    silence_watch,
    watching_for_silence,
)
from tests.fixtures.apart import Apart
from tests.fixtures.postgres import within
from tests.fixtures.silence import SilentProxy

SOON = timedelta(milliseconds=200)
AT_ONCE = timedelta(milliseconds=20)
LEAST_TIMEOUT = 2  # seconds: libpq waits no less for a connection


@pytest.fixture
async def proxy(database_urls: DatabaseUrls) -> AsyncIterator[SilentProxy]:
    port = make_url(database_urls.platform).port
    assert port is not None
    async with SilentProxy(port).serving() as made:
        yield made


def through(url: str, port: int) -> str:
    return make_url(url).set(host=LOOPBACK, port=port).render_as_string(hide_password=False)


async def test_a_statement_of_a_session_ends_soon_and_the_server_is_named(
    proxy: SilentProxy, database_urls: DatabaseUrls
) -> None:
    database = Database(platform_url=through(database_urls.platform, proxy.port))

    async def wait() -> None:
        with reaching():
            async with database.platform_session("wait for a silent server") as session:
                await session.execute(text("select 1"))
                proxy.silent.set()
                await session.execute(text("select 2"))

    with watching_for_silence(SilenceWatch(SOON, AT_ONCE)):
        with pytest.raises(NotReachable) as told:
            await wait()
        await database.dispose()
    assert told.value.message.startswith(f"the database {LOOPBACK}:{proxy.port}/")
    assert f"does not answer tenancy_platform: {SILENT}. Look at its log" in told.value.message


async def test_a_silent_server_of_a_store_is_named_as_the_store(
    proxy: SilentProxy, apart: Apart
) -> None:
    urls = await apart.add("acme")
    [name] = apart.names
    apart.secrets.put(f"{name}.tenant", through(urls.tenant, proxy.port))

    async def wait() -> None:
        with reaching(advice=Advice(database="Start the other one.")):
            async with tenant_session() as session:
                await session.execute(text("select 1"))
                proxy.silent.set()
                await session.execute(text("select 2"))

    with (
        watching_for_silence(SilenceWatch(SOON, AT_ONCE)),
        within(apart.database, "acme"),
        pytest.raises(NotReachable) as told,
    ):
        await wait()
    assert told.value.message == (
        f'the store "{name}" does not answer. Only its tenants have to wait. Start its server, or '
        "correct its URL in the secret store."
    )


async def test_a_statement_of_a_single_connection_ends_soon_too(
    proxy: SilentProxy, database_urls: DatabaseUrls
) -> None:
    url = through(database_urls.platform, proxy.port)
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with connect(url) as connection:
            connection.execute("select 1")
            loop.call_soon_threadsafe(proxy.silent.set)
            while True:
                connection.execute("select 2")

    with watching_for_silence(SilenceWatch(SOON, AT_ONCE)):
        with pytest.raises(DatabaseUnreachable, match=SILENT):
            await asyncio.to_thread(wait)
        # Nobody waits for it again.
        with pytest.raises(DatabaseUnreachable, match=SILENT), connect(url):
            pass
        database = Database(platform_url=url)
        with pytest.raises(DatabaseUnreachable, match=SILENT):
            async with database.platform_session("ask a silent server") as session:
                await session.execute(text("select 1"))
        await database.dispose()


async def test_a_slow_statement_goes_on_while_the_server_answers_others(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Semaphore(0)
    answers = silent_servers._answers

    def counted(connection: silent_servers.Connection, seconds: float) -> bool:
        found = answers(connection, seconds)
        if found:
            asked.release()
        return found

    monkeypatch.setattr(silent_servers, "_answers", counted)
    database = Database(platform_url=database_urls.platform)

    def hold() -> None:
        with psycopg.connect(plain(database_urls.platform)) as other:
            other.execute("select pg_advisory_xact_lock(7)")
            held.set()
            for _ in range(3):
                asked.acquire()

    held = threading.Event()
    with watching_for_silence(SilenceWatch(timedelta(seconds=60), AT_ONCE)):
        holding = asyncio.create_task(asyncio.to_thread(hold))
        await asyncio.to_thread(held.wait)
        async with database.platform_session("wait for a lock") as session:
            await session.execute(text("set local lock_timeout = 0"))
            await session.execute(text("select pg_advisory_xact_lock(7)"))
        await holding
        await database.dispose()


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


async def test_a_connection_that_is_lost_in_a_command_is_one_sentence(
    database_urls: DatabaseUrls,
) -> None:
    with (
        watching_for_silence(),
        pytest.raises(DatabaseUnreachable, match="terminating connection"),
        connect(database_urls.platform) as connection,
    ):
        connection.execute("select pg_terminate_backend(pg_backend_pid())")


def test_every_command_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[SilenceWatch | None] = []

    async def command() -> Answer:
        found.extend([silence_watch(), await asyncio.to_thread(silence_watch)])
        return Answer({}, "")

    with use_program(Program(load=lambda: application("postgresql://x@127.0.0.1:1/x"))):
        perform(command(), json=True)
    assert found[0] is not None
    assert found[0] is found[1]
    assert silence_watch() is None


def application(url: str) -> Application:
    def of(role: str) -> Login:
        return Login(
            f"{role.upper()}_URL",
            make_url(url).set(username=f"tenancy_{role}").render_as_string(hide_password=False),
        )

    async def connect_nowhere(_: Database | None) -> None:
        raise NotReachable("the Temporal server does not answer.")

    return Application(
        connect=connect_nowhere,  # type: ignore[arg-type]  # it never returns
        database=lambda: Database(platform_url=of("platform").url),
        tenant=of("tenant"),
        platform=of("platform"),
        relay=of("relay"),
        owner=Login("OWNER_URL"),
        queues=["bulk"],
    )


@contextmanager
def hung() -> Iterator[socket.socket]:
    """A listener whose connections nobody accepts, as of a stopped process."""
    with socket.create_server((LOOPBACK, 0), backlog=64) as listener:
        listener.setblocking(False)
        yield listener


async def test_a_doctor_waits_once_for_a_hung_server_whose_logins_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT", LEAST_TIMEOUT)
    with hung() as listener:
        url = "postgresql://x@{}:{}/x".format(*listener.getsockname())
        with use_program(Program(load=lambda: application(url))), watching_for_silence():
            checks = await asyncio.to_thread(database_checks)
            found = await doctor.examine()
        connected = 0
        try:
            while True:
                listener.accept()[0].close()
                connected += 1
        except BlockingIOError:
            pass
    assert connected == 1
    roles = [check for check in checks if check.name.startswith("role ")]
    assert [check.verdict for check in roles] == [Verdict.FAILED] * 3
    assert all("does not answer tenancy_" in check.message for check in roles)
    assert found.document["counts"]["failed"] == 4  # Temporal too


async def test_a_doctor_waits_once_for_a_hung_temporal() -> None:
    asked: list[None] = []
    made = application("postgresql://x@127.0.0.1:1/x")
    connects = made.connect

    async def connect_and_count(database: Database | None) -> object:
        asked.append(None)
        return await connects(database)

    object.__setattr__(made, "connect", connect_and_count)
    with use_program(Program(load=lambda: made)), watching_for_silence():
        found = await doctor.examine()
    by_name = {check["name"]: check for check in found.document["checks"]}
    assert len(asked) == 1
    assert by_name["relay"]["message"] == "Temporal does not answer."
    assert by_name["workers of bulk"]["verdict"] == "skipped"


def test_it_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with use_program(Program(load=lambda: application("postgresql://x@127.0.0.1:1/x"))):
        with pytest.raises(NotReachable) as told, reaching():
            raise DatabaseUnreachable(f"the database x does not answer y: {SILENT}.")
        assert report(told.value, json=False, debug=False) == 3
    assert SILENT in capsys.readouterr().err
