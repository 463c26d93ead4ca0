"""Do a thousand idle connections delay calls to the HTTP door?

The door runs as a process, with its usual limits. A round makes two series of calls with an API
key, each call on a new connection: once alone (the peer), and once beside 1,000 connections from 20
other addresses of this machine, half of which have sent nothing and half an incomplete request
head. Measured: the p95 time from connecting to the complete response.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import psycopg

from benchmarks.outbox.outbox_stack import LOOK, driver_url
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, quantile, rounds, tell, turns
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from temporal_tenancy import Database
from temporal_tenancy.control_plane import ApiKeys, Tenants

NAME: Final = "idle_connections"
GOAL: Final = Goal("<=", 2.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANT: Final = "dl"
CALLS: Final = 60  # per arm and round
IDLE: Final = 1_000
ADDRESSES: Final = 20  # source addresses of the idle connections
PART_OF_A_HEAD: Final = b"GET / HTTP/1.1\r\nHost: "
OTHER_FILES: Final = 256  # file descriptors that this process needs besides
ROOT: Final = Path(__file__).parents[2]

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 20 s."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(IDLE + OTHER_FILES, hard), hard))
    urls = servers.new_database(NAME)
    key = await _key(urls)
    comparison = Comparison()
    left = IDLE
    async with _door(servers, urls) as url:
        await _calls(url, key)
        for order in turns(rounds(6, full=30)):
            p95: dict[Arm, float] = {}
            for arm in order:
                if arm is Arm.PEER:
                    p95[arm] = quantile(await _calls(url, key), 0.95)
                else:
                    async with _idle(url) as open_:
                        p95[arm] = quantile(await _calls(url, key), 0.95)
                        left = min(left, sum(not reader.at_eof() for reader, _ in open_))
            comparison.add(p95)
            tell(
                f"{NAME}: p95 {p95[Arm.OURS]:.1f} ms beside {IDLE:,} idle connections, "
                f"{p95[Arm.PEER]:.1f} ms alone"
            )
    measured = "ms, p95 of a call on a new connection"
    besides = {"idle_at_the_end": float(left)}
    return [Answer(NAME, "without idle connections", GOAL, measured, comparison, besides)]


async def _key(urls: DatabaseUrls) -> str:
    database = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    try:
        await Tenants(database).add(TENANT, "Delta", plan="enterprise")
        _, key = await ApiKeys(database).create(TENANT, NAME)
    finally:
        await database.dispose()
    async with await psycopg.AsyncConnection.connect(driver_url(urls.superuser)) as connection:
        await connection.execute("update tenancy.plans set rate_limits = '{\"http\": 100000}'")
    return key


@asynccontextmanager
async def _door(servers: Servers, urls: DatabaseUrls) -> AsyncIterator[str]:
    """Runs the door during the block; yields its URL."""
    ready = servers.directory / f"{NAME}.ready"
    process = OwnedProcess(
        [sys.executable, "-m", "processes.web", "--port", "0", "--ready-file", str(ready)],
        log=servers.directory / f"{NAME}.log",
        environ={
            "PYTHONPATH": str(ROOT),
            "TENANT_DATABASE_URL": urls.tenant,
            "PLATFORM_DATABASE_URL": urls.platform,
            "TEMPORAL_ADDRESS": servers.temporal_address,
            "LOG_LEVEL": "warning",
        },
    )

    try:
        while not ready.exists():  # another process sends no event
            assert process.running, process.log_tail()
            await asyncio.sleep(LOOK)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.stop()


async def _calls(url: str, key: str) -> list[float]:
    """Makes calls one after the other; returns the milliseconds of each."""
    parts = urlsplit(url)
    request = (
        f"GET /imports/{UUID(int=0)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request)
        response = await reader.read()
        taken.append((time.perf_counter() - began) * 1000)
        assert b" 404 " in response.partition(b"\r\n")[0], response
        writer.close()
    return taken


@asynccontextmanager
async def _idle(url: str) -> AsyncIterator[list[Connection]]:
    """Holds connections open that never complete a request."""
    parts = urlsplit(url)
    open_: list[Connection] = []
    try:
        for number in range(IDLE):
            source = (f"127.0.1.{number % ADDRESSES + 1}", 0)
            connection = await asyncio.open_connection(
                parts.hostname, parts.port, local_addr=source
            )
            if number % 2:
                connection[1].write(PART_OF_A_HEAD)
            open_.append(connection)
        yield open_
    finally:
        for _, writer in open_:
            writer.transport.abort()
