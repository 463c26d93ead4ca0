"""How much does observing everything cost?

A round works off 120 messages (FULL=1: 600), each of which a relay's process starts as a
workflow, whose activity writes and reads a row in a tenant's session in a worker's process. Ours:
both processes log at "info" as JSON, measure and meter themselves, are scraped every second, and
send a trace of every message, from the request down to the SQL, to a collector's process on the
same machine. Peer: the same two programs with none of it. `sampled` is ours with one trace in ten.
Measured: messages a second, from the first request to the last row. `everything_on_cpu` has the
messages for each second of processor time that all processes and servers used, which is what limits
a machine that is busy, and which other work on the machine disturbs less.

The collector and the scrapes run on the processors that are measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from benchmarks.observing.observed_jobs import NAME as JOB
from benchmarks.observing.observed_jobs import QUEUE_VARIABLE
from benchmarks.outbox.outbox_stack import LOOK, READY, Outbox, outbox, value_of
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.processor import CPU_UNIT, Rates, processor_seconds
from benchmarks.shared.servers import Servers
from dev.devstack.processes import OwnedProcess

NAME: Final = "everything_on"
GOAL: Final = Goal(">=", 0.95)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
MESSAGES: Final = 120  # of a turn: few, because the machine's speed drifts
TENANTS: Final = tuple(f"t{number}" for number in range(4))
SCRAPED_EVERY: Final = 1.0  # seconds
_WRITTEN: Final = "select count(*) from audit_entries where actor = 'bench'"
SAMPLED: Final = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
}


@dataclass(frozen=True)
class Side:
    """A database with a relay's and a worker's process."""

    outbox: Outbox
    addresses: Sequence[str]  # of their metrics

    async def measured(self, messages: int) -> Rates:
        """Works off so many messages."""
        inputs = [{"number": number} for number in range(messages // len(TENANTS))]
        scraping = asyncio.create_task(self._scrape())
        before = await self._written()
        began, used = time.perf_counter(), processor_seconds()
        for tenant in TENANTS:
            await self.outbox.ask(tenant, JOB, inputs)
        await self.outbox.until_worked_off()
        while await self._written() < before + messages:  # noqa: ASYNC110  # a job runs on
            await asyncio.sleep(LOOK)
        took, used = time.perf_counter() - began, processor_seconds() - used
        scraping.cancel()
        return Rates(messages / took, messages / used)

    async def _written(self) -> int:
        return int(await value_of(self.outbox.everything, _WRITTEN))

    async def _scrape(self) -> None:
        async with httpx.AsyncClient() as client:
            while self.addresses:
                for address in self.addresses:
                    (await client.get(f"{address}/metrics")).raise_for_status()
                await asyncio.sleep(SCRAPED_EVERY)


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 5 minutes on two slow cores."""
    messages = 5 * MESSAGES if is_full() else MESSAGES
    comparison, of_cpu, sampled = Comparison(), Comparison(), Comparison()
    async with AsyncExitStack() as stack:
        collector, endpoint = await _started(servers, "collector", "on", {})
        stack.callback(collector.kill)
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        sides = {
            name: await stack.enter_async_context(_side(servers, name, arm, variables))
            for name, arm, variables in (
                ("on", "on", traced),
                ("sampled", "on", traced | SAMPLED),
                ("off", "off", {}),
            )
        }
        for side in sides.values():  # the first round opens connections and fills caches
            await side.measured(2 * messages)
        for number, order in enumerate(turns(rounds(21, full=41))):
            measured: dict[Arm, Rates] = {}
            for arm in order:
                side = sides["on" if arm is Arm.OURS else "off"]
                measured[arm] = await side.measured(messages)
            some = await sides["sampled"].measured(messages)
            comparison.add({arm: each.per_second for arm, each in measured.items()})
            of_cpu.add({arm: each.per_cpu_second for arm, each in measured.items()})
            off = measured[Arm.PEER]
            sampled.add({Arm.OURS: some.per_cpu_second, Arm.PEER: off.per_cpu_second})
            tell(
                f"{NAME}: round {number + 1}: messages/s and /CPU second: on "
                f"{measured[Arm.OURS]}, off {off}, sampled {some}"
            )
    peer, unit = "the same without observing", f"messages{CPU_UNIT}"
    return [
        Answer(NAME, peer, GOAL, "messages/s", comparison),
        Answer(f"{NAME}_cpu", peer, GOAL, unit, of_cpu),
        Answer(f"{NAME}_sampled", peer, GOAL, f"{unit}, 1 trace in 10", sampled),
    ]


@asynccontextmanager
async def _side(
    servers: Servers, name: str, arm: str, variables: Mapping[str, str]
) -> AsyncIterator[Side]:
    async with outbox(servers, f"{NAME}_{name}", TENANTS) as ours, AsyncExitStack() as stack:
        addresses = []
        for role in ("relay", "worker"):
            environ = {
                "TENANT_DATABASE_URL": ours.urls.tenant,
                "PLATFORM_DATABASE_URL": ours.urls.platform,
                "RELAY_DATABASE_URL": ours.urls.relay,
                "TEMPORAL_ADDRESS": servers.temporal_address,
                QUEUE_VARIABLE: f"bench-observed-{name}",
                **variables,
            }
            process, address = await _started(servers, role, arm, environ)
            stack.callback(process.kill)
            addresses += [address] if address else []
        yield Side(ours, addresses)


async def _started(
    servers: Servers, role: str, arm: str, variables: Mapping[str, str]
) -> tuple[OwnedProcess, str]:
    """Starts a process; returns it, and the address that it says once it takes work."""
    number = len(list(servers.directory.glob("observed-*.log")))
    log = servers.directory / f"observed-{number}.log"
    process = OwnedProcess(
        [sys.executable, "-m", "benchmarks.observing.observed_process", role, arm],
        log=log,
        environ={**os.environ, **variables},
    )
    while True:  # another process sends no event
        said = [line for line in log.read_text().splitlines() if line.startswith(READY)]
        if said:
            return process, said[0].removeprefix(READY).strip()
        assert process.running, process.log_tail()
        await asyncio.sleep(LOOK)
