"""Minutes of mixed load on a real Temporal server while things go wrong. `make soak` runs it.

It is no part of the suite. `SOAK_MINUTES` says how long: 20 unless it is set, 2 for a trial.
Fan-outs, messages, imports and requests go on all the time. Workers and relays are killed,
connections are cut, PostgreSQL and the Temporal server are killed and started again. In the end
each tick, message and row must be there once, and nothing of ours that lived through it may hold on
to ever more memory, threads, file handles or connections, also to the Temporal server. That server
is judged by what it holds for others: how docs/how-to/run-a-real-server.md says.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from temporalio.service import RPCError

from dev.devstack.temporal_cluster import TemporalServer
from dev.devstack.temporal_kinds import KIND_VARIABLE, TemporalKind
from temporal_tenancy.control_plane._api_keys import ApiKeys
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from tests.fixtures.worker_process import WorkerProcess
from tests.system.faults.campaign import STORM_INTERVAL, ended_by_themselves
from tests.system.faults.checker import problems
from tests.system.faults.message_campaign import VARIABLES, sweep
from tests.system.faults.message_checker import Asked
from tests.system.faults.message_checker import problems as message_problems
from tests.system.faults.servers import Servers, running_servers
from tests.system.faults.soak_load import AWAY, WELL, Load
from tests.system.faults.steadiness import CONNECTIONS, RUNS, Samples

MINUTES: Final = float(os.environ.get("SOAK_MINUTES", "20"))
WARM_UP: Final = min(300.0, MINUTES * 60 / 4)  # seconds of each process
EVERY: Final = 5.0  # seconds between samples
COUNTING: Final = timedelta(seconds=2)
BETWEEN_FAULTS: Final = 20.0 if MINUTES > 5 else 8.0
STORM: Final = 2.0  # seconds
# When the servers are killed, as parts of the time. The last server lives long enough to be judged.
CRASHES: Final = {"Temporal": (0.08, 0.22, 0.95), "PostgreSQL": (0.15,)}
MODULE: Final = "tests.system.faults.soak_process"
# By default the server remembers up to 128,000 runs for an hour, so its memory rises for all of a
# soak. These caches are full before the warm-up is over; what rises then is a leak.
CACHES: Final = {
    "history.hostLevelCacheMaxSize": "500",
    "history.eventsHostLevelCacheMaxSizeBytes": str(4 * 1024 * 1024),
}
WORKERS: Final = 3  # the first lives through it
RELAYS: Final = 2
CALLERS: Final = 2  # tenants that send requests and files
FEATURE: Final = "imports"  # which they need for it

_CONNECTIONS: Final = "select count(*) as count from pg_stat_activity where usename is not null"
_CONTACTS: Final = """
    select tenant_id, count(*) as rows, count(distinct email) as emails
      from contacts where email like 'r%%-%%@%%.example' group by tenant_id
"""


class Soak:
    """The servers and processes of the soak, and what goes wrong with them."""

    def __init__(self, servers: Servers, web: WorkerProcess) -> None:
        self.servers = servers
        self.web = web
        self.samples = Samples()
        self.faults: Counter[str] = Counter()
        self.began = time.monotonic()

    def steady(self) -> dict[str, int]:
        """Returns the processes of ours that nothing kills, by role."""
        return {
            "worker": self.servers.workers[0].process.pid,
            "relay": self.servers.relays[0].process.pid,
            "HTTP door": self.web.process.pid,
        }

    async def _look_at_temporal(self) -> None:
        temporal = self.servers.temporal
        role = f"Temporal server {self.faults['kill Temporal'] + 1}"  # each is another process
        if not temporal.running:
            return
        self.samples.look_at_server(role, temporal.pid, self._port)
        with suppress(RPCError):  # it is being started again
            count = await self.servers.client.count_workflows(rpc_timeout=COUNTING)
            self.samples.add(role, RUNS, count.count)

    @property
    def _port(self) -> int:
        """Temporal's, for its clients."""
        return int(self.servers.temporal.address.rpartition(":")[2])

    async def watch(self) -> None:
        """Samples for ever."""
        for number in itertools.count(1):
            for role, pid in self.steady().items():
                self.samples.look_at(role, pid, self._port)
            await self._look_at_temporal()
            try:
                async with self.servers.everything() as rows:
                    found = await (await rows.execute(_CONNECTIONS)).fetchone()
                if found is not None:
                    self.samples.add("PostgreSQL", CONNECTIONS, found["count"])
                temporal = self.servers.temporal
                if isinstance(temporal, TemporalServer) and temporal.running:
                    count = await asyncio.to_thread(temporal.database.connections)
                    self.samples.add("Temporal's PostgreSQL", CONNECTIONS, count)
            except OSError:
                pass  # it is being started again
            except Exception as error:
                if "psycopg" not in type(error).__module__:
                    raise
            await asyncio.sleep(max(0.0, self.began + number * EVERY - time.monotonic()))

    async def trouble(self, until: float) -> None:
        """Causes faults one after the other until it is time."""
        usual = itertools.cycle([self._kill_worker, self._terminate, self._kill_relay])
        crashes = sorted(
            (self.began + part * (until - self.began), what)
            for what, parts in CRASHES.items()
            for part in parts
        )
        while time.monotonic() < until:
            await asyncio.sleep(min(BETWEEN_FAULTS, max(0.0, until - time.monotonic())))
            if crashes and time.monotonic() >= crashes[0][0]:
                await self._crash(crashes.pop(0)[1])
            elif time.monotonic() < until:
                await next(usual)()

    async def _crash(self, what: str) -> None:
        crash: dict[str, Callable[[], Awaitable[None]]] = {
            "Temporal": self.servers.crash_temporal,
            "PostgreSQL": self.servers.crash_postgres,
        }
        await crash[what]()
        self.faults[f"kill {what}"] += 1

    async def _kill_worker(self) -> None:
        await self._replace(self.servers.workers, self.servers.have_workers, WORKERS)
        self.faults["kill a worker"] += 1

    async def _kill_relay(self) -> None:
        await self._replace(self.servers.relays, self.servers.have_relays, RELAYS)
        self.faults["kill a relay"] += 1

    async def _replace(
        self,
        processes: list[WorkerProcess],
        have: Callable[[int], Awaitable[None]],
        count: int,
    ) -> None:
        """Kills the second process, and starts another."""
        victim = processes.pop(1)
        victim.process.kill()
        await have(count)

    async def _terminate(self) -> None:
        until = time.monotonic() + STORM
        while time.monotonic() < until:
            await self.servers.terminate_sessions()
            await asyncio.sleep(STORM_INTERVAL)
        self.faults["terminate sessions"] += 1


def environment(directory: Path) -> dict[str, str]:
    """Returns the variables of the processes, beside the servers' addresses."""
    (directory / "secrets").mkdir()
    return {
        "STORAGE_URL": f"file://{directory / 'storage'}",
        "SECRETS_URL": f"file://{directory / 'secrets'}",
        "WEB_URL": "http://door.example",
        "LINK_SECRET": "only-for-the-soak",
        **VARIABLES,
    }


async def callers_of(servers: Servers) -> list[str]:
    """Returns the tenants that send requests and files, which their plan must allow."""
    directory = ControlPlaneDirectory(servers.database)
    found = await directory.find_many(servers.tenants)
    return sorted(tenant.id for tenant in found if tenant.has_feature(FEATURE))[:CALLERS]


async def start_web(servers: Servers) -> WorkerProcess:
    """Starts the HTTP door."""
    environ = {
        name: value for name, value in servers.environ.items() if name != "RELAY_DATABASE_URL"
    }
    web = WorkerProcess(["-m", "processes.web", "--port", "0"], servers.directory, environ)
    return await web.until_ready()


async def wrong_in_the_end(servers: Servers, load: Load) -> list[str]:
    """Returns what is lost, doubled or another tenant's, a sentence each."""
    found: list[str] = []
    async with servers.everything() as rows:
        for tick in load.ticks:
            found += [f"{tick}: {each}" for each in await problems(rows, servers.client, tick)]
        asked = Asked("s", load.messages, load.since)
        found += await message_problems(rows, servers.client, asked)
        contacts = await (await rows.execute(_CONTACTS)).fetchall()
    counted = {row["tenant_id"]: (row["rows"], row["emails"]) for row in contacts}
    expected = {tenant: (count, count) for tenant, count in load.imported.items()}
    if counted != expected:
        found.append(f"imported contacts and addresses are {counted}, not {expected}.")
    return found


@pytest.mark.timeout(0)
async def test_nothing_is_lost_and_nothing_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = os.environ.get(KIND_VARIABLE) or str(TemporalKind.SERVER)
    monkeypatch.setenv(KIND_VARIABLE, kind)
    async with running_servers(
        tmp_path, CACHES, module=MODULE, warm=None, **environment(tmp_path)
    ) as servers:
        servers.queues = ("bulk", "default", "critical")
        web = await start_web(servers)
        try:
            await asyncio.gather(servers.have_workers(WORKERS), servers.have_relays(RELAYS))
            keys = ApiKeys(servers.database)
            callers = {
                tenant: (await keys.create(tenant, "soak"))[1]
                for tenant in await callers_of(servers)
            }
            soak = Soak(servers, web)
            until = soak.began + MINUTES * 60
            load = Load(servers, web.health, callers, until)
            watching = asyncio.create_task(soak.watch())
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                group.create_task(soak.trouble(until))
            took = time.monotonic() - soak.began
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await sweep(servers)
            wrong = await wrong_in_the_end(servers, load)
            wrong += ended_by_themselves(servers)
        finally:
            await asyncio.to_thread(web.process.kill)
    told = {
        "temporal": kind,
        "minutes": round(took / 60, 1),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "ticks": len(load.ticks),
        "tenants a tick": len(servers.tenants),
        "messages": len(load.messages),
        "imports": load.imports,
        "rows": load.imported.total(),
        "answers": dict(sorted(load.answers.items())),
        "faults": dict(soak.faults),
        "wrong": len(wrong),
        "kB of Temporal's memory a run": soak.samples.allow_for_runs(WARM_UP),
    }
    print(json.dumps(told))
    print("\n".join(soak.samples.table(WARM_UP)))
    assert wrong == []
    assert set(load.answers) <= WELL | AWAY | {0}
    assert soak.samples.rising(WARM_UP) == []
