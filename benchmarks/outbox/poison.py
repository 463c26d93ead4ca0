"""Does one invalid message in a hundred slow down the others?

A relay starts 400 workflows for the messages of six tenants. Ours: four more messages among them
are poison, two with an unknown job and two with an invalid payload; each becomes a dead letter.
Peer: the same without them. Measured: valid messages per second, from the relay's first poll to the
last start. `sink_with` and `sink_without` are the same for 3,000 messages and 30 of poison, where
no workflow is started, so that only the relay's own work is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from temporalio.client import Client

from benchmarks.outbox.outbox_stack import Outbox, outbox, running, value_of
from benchmarks.outbox.relay_throughput import LastOf, nowhere
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, rounds, tell, turns
from benchmarks.shared.servers import Servers
from temporal_tenancy.outbox import Deliver, RelayOptions, start_unit

NAME: Final = "poison"
GOAL: Final = Goal(">=", 0.95)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
TENANTS: Final = tuple(f"t{number}" for number in range(6))
MESSAGES: Final = 400
TO_NOWHERE: Final = 3_000  # messages
IN: Final = 101  # one message in so many is poison

# Inserted as SQL, since enqueue() would refuse the poison.
_ASK: Final = f"""
    insert into tenancy.outbox_messages (tenant_id, job, key, payload)
    select
        't' || n %% {len(TENANTS)},
        case when n %% {IN} = 7 and n %% 2 = 0 then 'no.such_job' else 'bench.started' end,
        gen_random_uuid(),
        case when n %% {IN} = 7 then '{{"nonsense": 1}}' else '{{}}' end::jsonb
    from generate_series(1, %s) as n
"""
_WHICH: Final = {Arm.OURS: "", Arm.PEER: f"where n %% {IN} <> 7"}
_DEAD: Final = "select count(*) from tenancy.outbox_messages where status = 'dead_letter'"


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about 25 s on two cores."""
    comparison, sunk = Comparison(), Comparison()
    async with outbox(servers, NAME, TENANTS) as ours:
        await ours.has_history()
        client = await ours.client()
        await _rate(ours, client, Arm.OURS, MESSAGES, start_unit)
        for order in turns(rounds(5, full=15)):
            comparison.add(
                {arm: await _rate(ours, client, arm, MESSAGES, start_unit) for arm in order}
            )
            sunk.add({arm: await _rate(ours, client, arm, TO_NOWHERE, nowhere) for arm in order})
            with_poison, without = comparison.ours[-1], comparison.peer[-1]
            tell(f"{NAME}: {with_poison:.0f} messages/s, {without:.0f} without poison")
        dead = await value_of(ours.everything, _DEAD)
        times = len(comparison.ours)
        assert dead == _poison(MESSAGES) * (times + 1) + _poison(TO_NOWHERE) * times, dead
    besides = {"sink_with": median(sunk.ours), "sink_without": median(sunk.peer)}
    return [Answer(NAME, "the same without poison", GOAL, "messages/s", comparison, besides)]


async def _rate(ours: Outbox, client: Client, arm: Arm, messages: int, deliver: Deliver) -> float:
    """Returns how many valid messages a second the relay delivers."""
    sent = (_ASK + _WHICH[arm]).encode()
    await ours.everything.execute(sent, [messages + _poison(messages)])
    await ours.everything.execute("vacuum (analyze) tenancy.outbox_messages")
    last = LastOf(messages)
    began = time.perf_counter()
    async with running(ours.relay(client, RelayOptions(), deliver=last.after(deliver))):
        await last.done.wait()
        took = time.perf_counter() - began
        await ours.until_worked_off()
    return messages / took


def _poison(messages: int) -> int:
    """Returns the number of poison messages that go with `messages` valid ones."""
    return messages // (IN - 1)
