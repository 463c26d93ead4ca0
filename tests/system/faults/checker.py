"""Checks that a tick is right in the end, by what both servers say, whatever went wrong.

It reads as the superuser, whom row-level security hides nothing from, and counts for itself what
should be there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from saas.database.prices import CANCELLED, OPERATED
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.lookups import if_known

SETTLE_SECONDS: Final = 10.0  # for the list of workflows, which lags behind the workflows
LOOK: Final = 0.05  # seconds

Rows = psycopg.AsyncConnection[DictRow]
Said = TypeVar("Said")

# Each tenant's usage in a month by its own clock, by day.
_USAGE: Final = """
    select event.tenant_id,
           cast(event.time_hour at time zone tenants.time_zone as date) as day,
           count(*) as events,
           count(*) filter (where cancelled) as cancelled,
           coalesce(sum(distance) filter (where not cancelled), 0) as distance,
           coalesce(sum(air_time), 0) as air_time
      from usage_events as event
      join tenancy.tenants on tenants.id = event.tenant_id
     where to_char(event.time_hour at time zone tenants.time_zone, 'YYYY-MM') = %(tick)s
     group by event.tenant_id, day
"""
_DAILY: Final = """
    select tenant_id, day, events, cancelled, distance, air_time
      from daily_usage
     where to_char(day, 'YYYY-MM') = %(tick)s
"""
_INVOICES: Final = "select * from invoices where period = %(tick)s"
_LINES: Final = "select * from invoice_lines where period = %(tick)s"
_LEDGER: Final = "select * from tenancy.ledger where job = %(job)s and tick = %(tick)s"
_TICK: Final = "select * from tenancy.ticks where job = %(job)s and tick = %(tick)s"
_TENANTS: Final = "select id from tenancy.tenants order by id"
# A generated flight's carrier is its tenant's id in capitals.
_FOREIGN: Final = """
    select tenant_id, carrier, count(*) as events
      from usage_events
     where carrier <> upper(tenant_id)
     group by tenant_id, carrier
"""

# A worker that is killed while it probes the server leaves the run for the server to end.
_RUNNING: Final = f"ExecutionStatus = 'Running' and WorkflowType != '{fairness.JOB}'"

# The final states of a ledger row, with the workflow statuses that they require.
_ENDS: Final = {
    "succeeded": WorkflowExecutionStatus.COMPLETED,
    "failed": WorkflowExecutionStatus.FAILED,
}
_WITH_REASON: Final = ("failed", "skipped", "not_started")


@dataclass(frozen=True)
class Tick:
    """The tick to check."""

    job: str
    tick: str


async def problems(
    everything: Rows, client: Client, tick: Tick, *, settle: float = SETTLE_SECONDS
) -> list[str]:
    """What is not as it has to be after a tick, a sentence each; empty when all is right.

    `everything` is a superuser's connection, and what its open transaction has changed is seen.
    What the list of workflows says is waited for for `settle` seconds.
    """
    state = await _State.read(everything, tick)
    effects = _EFFECTS[tick.job]
    return [
        *_ledger(state),
        *effects(state),
        *(
            f"{row['events']} usage events of {row['carrier']} are {row['tenant_id']}'s."
            for row in state.foreign
        ),
        *await _children(client, state, settle),
        *await _open(client, settle),
    ]


@dataclass(frozen=True)
class _State:
    """Everything in the database about a tick."""

    tick: Tick
    tenants: list[str]
    usage: list[DictRow]
    daily: list[DictRow]
    invoices: list[DictRow]
    lines: list[DictRow]
    ledger: list[DictRow]
    ticks: list[DictRow]
    foreign: list[DictRow]

    @classmethod
    async def read(cls, everything: Rows, tick: Tick) -> _State:
        async def rows(statement: str) -> list[DictRow]:
            cursor = everything.cursor(row_factory=dict_row)
            return await (await cursor.execute(statement, vars(tick))).fetchall()

        return cls(
            tick=tick,
            tenants=[row["id"] for row in await rows(_TENANTS)],
            usage=await rows(_USAGE),
            daily=await rows(_DAILY),
            invoices=await rows(_INVOICES),
            lines=await rows(_LINES),
            ledger=await rows(_LEDGER),
            ticks=await rows(_TICK),
            foreign=await rows(_FOREIGN),
        )

    @property
    def succeeded(self) -> list[str]:
        """Returns the tenants whose part of the tick is done, by the ledger."""
        return [row["tenant_id"] for row in self.ledger if row["state"] == "succeeded"]


def _ledger(state: _State) -> list[str]:
    """Checks that every tenant is in it, with an end, and with a reason unless it succeeded."""
    found = []
    if [row["state"] for row in state.ticks] != ["ended"]:
        found.append(f"the tick's own rows are {[row['state'] for row in state.ticks]}.")
    rows = Counter(row["tenant_id"] for row in state.ledger)
    for tenant in sorted({*rows, *state.tenants}):
        expected = 1 if tenant in state.tenants else 0
        if rows[tenant] != expected:
            found.append(f"{tenant} has {rows[tenant]} rows in the ledger, not {expected}.")
    for row in state.ledger:
        tenant = row["tenant_id"]
        if row["state"] not in ("succeeded", *_WITH_REASON):
            found.append(f"{tenant} is still {row['state']} in the ledger.")
        if row["state"] in _WITH_REASON and not row["reason"]:
            found.append(f"{tenant} is {row['state']} without a reason.")
        own = f"{tenant}/{state.tick.job}/{state.tick.tick}"
        if row["workflow_id"] not in ((own, None) if row["state"] == "skipped" else (own,)):
            found.append(f"{tenant}'s workflow in the ledger is {row['workflow_id']}.")
    return found


def _billing(state: _State) -> list[str]:
    """Checks that each tenant has one invoice, with one line per rate, for its usage."""
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in state.usage:
        used[row["tenant_id"]][CANCELLED.name] += row["cancelled"]
        used[row["tenant_id"]][OPERATED.name] += row["events"] - row["cancelled"]
    invoices, lines = _by_tenant(state.invoices), _by_tenant(state.lines)
    found = []
    for tenant in sorted({*state.succeeded, *invoices, *lines}):
        expected_lines = [
            (rate.name, used[tenant][rate.name], rate.amount_cents(used[tenant][rate.name]))
            for rate in (CANCELLED, OPERATED)
        ]
        expected = [(used[tenant].total(), sum(amount for *_, amount in expected_lines))]
        if tenant not in state.succeeded:
            expected, expected_lines = [], []
        issued = [(row["usage_events"], row["total_cents"]) for row in invoices[tenant]]
        if issued != expected:
            found.append(f"{tenant}'s invoices (events, cents) are {issued}, not {expected}.")
        has = sorted((row["rate"], row["quantity"], row["amount_cents"]) for row in lines[tenant])
        if has != expected_lines:
            found.append(f"{tenant}'s invoice lines are {has}, not {expected_lines}.")
    return found


def _analytics(state: _State) -> list[str]:
    """Checks that each tenant's days match its events."""
    used, counted = _by_tenant(state.usage), _by_tenant(state.daily)
    found = []
    for tenant in sorted({*state.succeeded, *counted}):
        expected = _days(used[tenant]) if tenant in state.succeeded else []
        if (days := _days(counted[tenant])) != expected:
            found.append(f"{tenant}'s days are {days}, not {expected}.")
    return found


def _days(rows: list[DictRow]) -> list[tuple[object, ...]]:
    fields = ("day", "events", "cancelled", "distance", "air_time")
    return sorted(tuple(str(row[field]) for field in fields) for row in rows)


_EFFECTS: Final[Mapping[str, Callable[[_State], list[str]]]] = {
    "billing.cycle": _billing,
    "analytics.aggregate": _analytics,
}


async def _children(client: Client, state: _State, settle: float) -> list[str]:
    """Checks that the ledger's runs ended as it says, and that no other run succeeded."""
    found = []
    for row in state.ledger:
        tenant, expected = row["tenant_id"], _ENDS.get(row["state"])
        status = await _status(client, row["workflow_id"], row["run_id"])
        if expected is not None and status != expected:
            found.append(f"{tenant} {row['state']} by the ledger; Temporal says {_name(status)}.")

    async def successes() -> Counter[str]:
        query = f"Job = '{state.tick.job}' and ExecutionStatus = 'Completed'"
        ids = [run.id async for run in client.list_workflows(query) if _is_child(run, state.tick)]
        return Counter(workflow_id.split("/", 1)[0] for workflow_id in ids)

    expected_successes = dict.fromkeys(state.succeeded, 1)
    counted = await settled(successes, lambda found: found == expected_successes, settle)
    return found + [
        f"{tenant} has {counted[tenant]} successful runs, not {expected_successes.get(tenant, 0)}."
        for tenant in sorted({*counted, *expected_successes})
        if counted[tenant] != expected_successes.get(tenant, 0)
    ]


async def _open(client: Client, settle: float) -> list[str]:
    async def ids() -> list[str]:
        return [run.id async for run in client.list_workflows(_RUNNING)]

    return [f"{name} is open." for name in await settled(ids, lambda found: not found, settle)]


async def settled(
    read: Callable[[], Awaitable[Said]], holds: Callable[[Said], bool], seconds: float
) -> Said:
    """Returns what `read` returns once it holds, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = await read()
        if holds(found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(LOOK)


async def _status(
    client: Client, workflow_id: str | None, run_id: str | None
) -> WorkflowExecutionStatus | None:
    if workflow_id is None or run_id is None:
        return None
    run = await if_known(client.get_workflow_handle(workflow_id, run_id=run_id).describe())
    return None if run is None else run.status


def _is_child(run: WorkflowExecution, tick: Tick) -> bool:
    tenant, _, rest = run.id.partition("/")
    return tenant != "platform" and rest == f"{tick.job}/{tick.tick}"


def _name(status: WorkflowExecutionStatus | None) -> str:
    return "it has no such run" if status is None else status.name


def _by_tenant(rows: list[DictRow]) -> defaultdict[str, list[DictRow]]:
    by_tenant: defaultdict[str, list[DictRow]] = defaultdict(list)
    for row in rows:
        by_tenant[row["tenant_id"]].append(row)
    return by_tenant
