"""How many messages a second does a relay start, by the same starts from a bare client?

600 messages of one workflow each wait in the outbox (FULL=1; otherwise 300). Ours is a relay from
its first look until the last of them is started: it claims and checks them, starts 48 at once with
the tenant's header, search attributes and priority, and marks them. The peer is a loop of
`start_workflow` over as many inputs, 48 at once, with temporalio's own client and pydantic
converter: what the server gives to anybody. `plugin_client` is the same loop with the tenancy
plugin on. No worker runs: a start is all there is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from temporalio.client import Client

from benchmarks.outbox.outbox_effects import SMALL_QUEUE
from benchmarks.outbox.outbox_stack import Outbox, outbox, running
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy import TenantInput
from temporal_tenancy.outbox import Deliver, RelayOptions, RetryLadder, Unit, start_unit

NAME: Final = "relay_throughput"
GOAL: Final = Goal(">=", 0.9)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number}" for number in range(6))
JOB: Final = "bench.started"
AT_ONCE: Final = RelayOptions().starts


async def answers(servers: Servers) -> Sequence[Answer]:
    """Asks the question; about 30 s on two cores."""
    messages = 3_000 if is_full() else 600  # so many that beginning is a small part
    comparison, with_plugin = Comparison(), list[float]()
    async with outbox(servers, NAME, TENANTS) as ours:
        client, bare = await ours.client(), await servers.bare_client()
        await _relayed(ours, client, messages)  # the first starts of a server are slow
        for number, order in enumerate(turns(rounds(3, full=9))):
            measured: dict[Arm, float] = {}
            for arm in order:
                if arm is Arm.OURS:
                    measured[arm] = await _relayed(ours, client, messages)
                else:
                    measured[arm] = await _started(bare, f"bare-{number}", messages)
            with_plugin.append(await _started(client, f"plugin-{number}", messages))
            comparison.add(measured)
            tell(
                f"{NAME}: round {number + 1}: relay {measured[Arm.OURS]:.0f}, bare client "
                f"{measured[Arm.PEER]:.0f}, with the plugin {with_plugin[-1]:.0f} starts/s"
            )
    peer = f"start_workflow of a bare client, {AT_ONCE} at once"
    besides = {"plugin_client": median(with_plugin)}
    return [Answer(NAME, peer, GOAL, "starts/s", comparison, besides)]


async def _relayed(ours: Outbox, client: Client, messages: int) -> float:
    """Starts a second by a relay that begins to work on a backlog."""
    for tenant in TENANTS:
        await ours.ask(tenant, JOB, [{}] * (messages // len(TENANTS)))
    last = LastOf(messages)
    began = time.perf_counter()
    async with running(ours.relay(client, RelayOptions(), deliver=last.after(start_unit))):
        await last.done.wait()
        took = time.perf_counter() - began
        await ours.until_worked_off()
    return messages / took


async def _started(client: Client, key: str, messages: int) -> float:
    """Starts a second by a client in a loop."""
    waiting = iter(range(messages))

    async def fill_a_place() -> None:
        for number in waiting:
            tenant = TENANTS[number % len(TENANTS)]
            await client.start_workflow(
                JOB,
                TenantInput(tenant_id=tenant),
                id=f"{tenant}/{JOB}/{key}-{number:024}",  # as long as a message's
                task_queue=SMALL_QUEUE,
            )

    began = time.perf_counter()
    await asyncio.gather(*(fill_a_place() for _ in range(AT_ONCE)))
    return messages / (time.perf_counter() - began)


class LastOf:
    """Tells when the last of so many messages has been delivered."""

    def __init__(self, messages: int) -> None:
        self.done = asyncio.Event()
        self._left = messages

    def after(self, deliver: Deliver) -> Deliver:
        """Counts what `deliver` has delivered."""

        async def counted(client: Client, unit: Unit, ladder: RetryLadder) -> None:
            await deliver(client, unit, ladder)
            self._left -= len(unit.messages)
            if self._left <= 0:
                self.done.set()

        return counted


async def nowhere(client: Client, unit: Unit, ladder: RetryLadder) -> None:
    """Delivers to nobody."""
