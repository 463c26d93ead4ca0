"""The mixed load of the soak: ticks, messages, imports and requests, for as long as it lasts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError
from temporalio.client import WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from saas.queues import Queue
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.system.faults.checker import Tick
from tests.system.faults.message_asks import Name, Poison, ask, plan
from tests.system.faults.message_campaign import Stage, sweep
from tests.system.faults.message_scenarios import TENANTS, Scenario
from tests.system.faults.scenarios import JOBS, WINDOW
from tests.system.faults.servers import Servers, is_away
from tests.system.faults.usage import load_month

AGAIN: Final = 0.5  # seconds
BETWEEN_TICKS: Final = 5.0  # seconds
BETWEEN_REQUESTS: Final = 0.25
BETWEEN_IMPORTS: Final = 2.0
BETWEEN_ROUNDS: Final = 2.0  # of messages
BETWEEN_SWEEPS: Final = 20.0
ROWS: Final = 400  # of a file
FIRST_YEAR: Final = 1990
PATHS: Final = ("/me", "/contacts", "/invoices", "/usage/daily", "/imports")
WELL: Final = frozenset({200, 429})  # 429: the caller's own limit
AWAY: Final = frozenset({503})  # while the database is

Said = TypeVar("Said")


async def insist(call: Callable[[], Awaitable[Said]]) -> Said:
    """Calls again and again until the servers are there to answer."""
    while True:
        try:
            return await call()
        except RPCError as error:
            if not is_away(error):
                raise
        except (DatabaseProblem, DBAPIError, psycopg.Error, OSError):
            pass
        await asyncio.sleep(AGAIN)


@dataclass
class Load:
    """What is asked for, and what was accepted: all of it must be there in the end, once."""

    servers: Servers
    url: str  # of the door
    keys: dict[str, str]  # of the tenants that send requests: API key by tenant
    until: float  # a time.monotonic()
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    ticks: list[Tick] = field(default_factory=list)
    messages: dict[Name, Poison | None] = field(default_factory=dict)
    imported: Counter[str] = field(default_factory=Counter)  # rows by tenant
    imports: int = 0
    answers: Counter[int] = field(default_factory=Counter)  # by status; 0: none

    @property
    def goes_on(self) -> bool:
        """Whether more is to be asked for."""
        return time.monotonic() < self.until

    async def run(self) -> None:
        """Asks for everything until it is time, and waits until all of it is done."""
        sweeping = asyncio.create_task(self._run_sweeps())
        try:
            await self._ask_for_everything()
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    async def _run_sweeps(self) -> None:
        """Finds, now and then, the dead letters that runs could not write during a fault."""
        while True:
            await asyncio.sleep(BETWEEN_SWEEPS)
            await insist(partial(sweep, self.servers))

    async def _ask_for_everything(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_ticks())
            group.create_task(self._run_messages())
            for tenant in self.keys:
                group.create_task(self._run_imports(tenant))
                group.create_task(self._run_requests(tenant))

    async def _run_ticks(self) -> None:
        number = 0
        while self.goes_on:
            job = JOBS[number % len(JOBS)]
            month = number // len(JOBS)
            tick = f"{FIRST_YEAR + month // 12}-{month % 12 + 1:02}"
            database, tenants = self.servers.database, self.servers.tenants
            await insist(partial(load_month, database, tenants, tick))
            self.ticks.append(Tick(job, tick))
            handle = await insist(partial(self._start, job, tick))
            await insist(handle.result)
            number += 1
            await asyncio.sleep(BETWEEN_TICKS)

    async def _start(self, job: str, tick: str) -> WorkflowHandle[FanOut, object]:
        workflow_id = f"platform/{job}/tick-{tick}"
        client = self.servers.client
        with suppress(WorkflowAlreadyStartedError):  # the answer to an earlier call was lost
            await client.start_workflow(
                FanOut.run,
                FanOutInput(job=job, tick=tick, window=WINDOW),
                id=workflow_id,
                task_queue=Queue.BULK,
            )
        return client.get_workflow_handle(workflow_id)

    async def _run_messages(self) -> None:
        servers = self.servers
        seed = 0
        while self.goes_on:
            every = servers.tenants
            tenants = [every[(seed + number) % len(every)] for number in range(TENANTS)]
            wanted = plan(seed, tenants)
            stage = Stage(
                servers, Scenario.of(seed), tenants, wanted, servers.database, servers.proxy
            )
            await ask(servers.database, [*wanted.before, *wanted.meanwhile])
            self.messages |= wanted.accepted
            await insist(partial(stage.until_done, tenants))
            seed += 1
            await asyncio.sleep(BETWEEN_ROUNDS)

    async def _run_imports(self, tenant: str) -> None:
        number = 0
        async with self._client(tenant) as client:
            while self.goes_on:
                lines = [f"r{number}-{row}@{tenant}.example,Row {row}\n" for row in range(ROWS)]
                content = "email,name\n" + "".join(lines)
                started = await self._insist_on(
                    client,
                    "POST",
                    "/imports",
                    headers={"Idempotency-Key": f"soak-{number}"},
                    files={"file": ("contacts.csv", content.encode(), "text/csv")},
                )
                self.imported[tenant] += ROWS
                self.imports += 1
                while True:
                    shown = await self._insist_on(client, "GET", f"/imports/{started['id']}")
                    if shown["status"] in ("completed", "failed", "cancelled"):
                        assert shown["status"] == "completed", shown
                        break
                    await asyncio.sleep(AGAIN)
                number += 1
                await asyncio.sleep(BETWEEN_IMPORTS)

    async def _insist_on(
        self, client: httpx.AsyncClient, method: str, path: str, **options: object
    ) -> dict[str, object]:
        """Sends a request until it is answered well, and returns the answer.

        Only what can pass is tried again: any other answer would be the same for ever.
        """
        while True:
            try:
                answer = await client.request(method, path, **options)  # type: ignore[arg-type]
            except httpx.TransportError:
                self.answers[0] += 1
            else:
                if answer.is_success:
                    found: dict[str, object] = answer.json()
                    return found
                assert answer.status_code in WELL | AWAY, f"{method} {path}: {answer.text}"
                self.answers[answer.status_code] += 1
            await asyncio.sleep(AGAIN)

    async def _run_requests(self, tenant: str) -> None:
        number = 0
        async with self._client(tenant) as client:
            while self.goes_on:
                try:
                    answer = await client.get(PATHS[number % len(PATHS)])
                    self.answers[answer.status_code] += 1
                except httpx.TransportError:
                    self.answers[0] += 1
                number += 1
                await asyncio.sleep(BETWEEN_REQUESTS)

    def _client(self, tenant: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.keys[tenant]}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)
