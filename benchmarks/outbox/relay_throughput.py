"""How many workflows per second does a relay start, compared with a bare client?

600 messages (FULL=1: 1,500) of one workflow each wait in the outbox. Ours: a relay, from its first
poll until the last workflow is started. It claims and checks the messages, starts 48 workflows at a
time with the tenant's header, search attributes and priority, and marks the messages. Peer: a loop
of `start_workflow` over as many inputs, 48 at a time, with temporalio's own client and pydantic
converter, which shows the server's limit. `_of_plugin` compares with the same loop by a client with
the tenancy plugin, and `_plugin` compares that client with the bare one. No worker runs, so that
only starts are measured.

`_same_fields` compares the plugin's client with a bare one whose starts have the same header,
search attributes, priority and summary. The difference between the two bare clients is the server's
work on these: above all it writes the search attributes to its visibility store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.contrib.pydantic import pydantic_data_converter

from benchmarks.outbox.outbox_effects import SMALL_QUEUE
from benchmarks.outbox.outbox_stack import Outbox, outbox, running
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.own_fields import own_fields
from benchmarks.shared.servers import Servers
from temporal_tenancy import TenantInput
from temporal_tenancy.outbox import Deliver, RelayOptions, RetryLadder, Unit, start_unit

NAME: Final = "relay_throughput"
GOAL: Final = Goal(">=", 0.9)
CLOSE: Final = Goal(">=", 0.95)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number}" for number in range(6))
JOB: Final = "bench.started"
AT_ONCE: Final = RelayOptions().starts


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a minute on two cores."""
    # Enough to make the relay's own start negligible. The server slows down at 100,000 open runs.
    messages = 1_500 if is_full() else 600
    relay, of_plugin, plugin, same_fields = (Comparison() for _ in range(4))
    async with outbox(servers, NAME, TENANTS) as ours:
        client, bare = await ours.client(), await servers.bare_client()
        stamping = await Client.connect(
            servers.temporal_address,
            data_converter=pydantic_data_converter,
            interceptors=[_Header()],
        )
        await _relayed(ours, client, messages)  # a server's first starts are slow
        for number, order in enumerate(turns(rounds(5, full=9))):
            measured: dict[Arm, float] = {}
            for arm in order:
                if arm is Arm.OURS:
                    measured[arm] = await _relayed(ours, client, messages)
                else:
                    measured[arm] = await _started(bare, f"bare-{number}", messages)
            with_plugin = await _started(client, f"plugin-{number}", messages)
            same = await _started(stamping, f"same-{number}", messages, same_fields=True)
            relay.add(measured)
            of_plugin.add({Arm.OURS: measured[Arm.OURS], Arm.PEER: with_plugin})
            plugin.add({Arm.OURS: with_plugin, Arm.PEER: measured[Arm.PEER]})
            same_fields.add({Arm.OURS: with_plugin, Arm.PEER: same})
            tell(
                f"{NAME}: round {number + 1}: relay {measured[Arm.OURS]:.0f}, bare client "
                f"{measured[Arm.PEER]:.0f}, with the plugin {with_plugin:.0f}, bare with the same "
                f"fields {same:.0f} starts/s"
            )
    peer, unit = f"start_workflow of a bare client, {AT_ONCE} at once", "starts/s"
    by_plugin = "the same by a client with the plugin"
    return [
        Answer(NAME, peer, GOAL, unit, relay),
        Answer(f"{NAME}_of_plugin", by_plugin, CLOSE, unit, of_plugin),
        Answer(f"{NAME}_plugin", peer, CLOSE, unit, plugin),
        Answer(f"{NAME}_same_fields", f"{peer}, with our fields", CLOSE, unit, same_fields),
    ]


class _Header(Interceptor):
    """Adds the tenant's header to starts, as the plugin does."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _HeaderOutbound(next)


class _HeaderOutbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        tenant = input.id.partition("/")[0]
        [payload] = pydantic_data_converter.payload_converter.to_payloads([tenant])
        input.headers = {**input.headers, "tenancy-scope": payload}
        return await super().start_workflow(input)


async def _relayed(ours: Outbox, client: Client, messages: int) -> float:
    """Returns the starts per second of a relay that begins with a backlog."""
    for tenant in TENANTS:
        await ours.ask(tenant, JOB, [{}] * (messages // len(TENANTS)))
    last = LastOf(messages)
    began = time.perf_counter()
    async with running(ours.relay(client, RelayOptions(), deliver=last.after(start_unit))):
        await last.done.wait()
        took = time.perf_counter() - began
        await ours.until_worked_off()
    return messages / took


async def _started(
    client: Client,
    key: str,
    messages: int,
    *,
    same_fields: bool = False,
) -> float:
    """Returns the starts per second of a client in a loop, with the fields of ours or not."""
    waiting = iter(range(messages))

    async def fill_a_place() -> None:
        for number in waiting:
            tenant = TENANTS[number % len(TENANTS)]
            await client.start_workflow(
                JOB,
                TenantInput(tenant_id=tenant),
                id=f"{tenant}/{JOB}/{key}-{number:024}",  # as long as the id for a message
                task_queue=SMALL_QUEUE,
                **(own_fields(tenant, JOB, key) if same_fields else {}),
            )

    began = time.perf_counter()
    await asyncio.gather(*(fill_a_place() for _ in range(AT_ONCE)))
    return messages / (time.perf_counter() - began)


class LastOf:
    """Sets `done` when the last of `messages` messages has been delivered."""

    def __init__(self, messages: int) -> None:
        self.done = asyncio.Event()
        self._left = messages

    def after(self, deliver: Deliver) -> Deliver:
        """Returns `deliver` with counting of its delivered messages."""

        async def counted(client: Client, unit: Unit, ladder: RetryLadder) -> None:
            await deliver(client, unit, ladder)
            self._left -= len(unit.messages)
            if self._left <= 0:
                self.done.set()

        return counted


async def nowhere(client: Client, unit: Unit, ladder: RetryLadder) -> None:
    """Delivers nothing."""
