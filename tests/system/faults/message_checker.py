"""Checks that messages are right in the end, by what both servers say, whatever went wrong.

It reads as the superuser, whom row-level security hides nothing from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import DictRow, dict_row
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.outbox.relay.starting import MESSAGE
from temporal_tenancy.sdk.agreement import JOB, TENANT_ID
from temporal_tenancy.sdk.lookups import if_known
from tests.system.faults.checker import SETTLE_SECONDS, Rows, settled
from tests.system.faults.message_asks import Name, Plan, Poison
from tests.system.faults.message_jobs import ALONE, EFFECT

FINAL: Final = ("completed", "dead_letter")

# One row per effect: its tenant, its name, its executor, and its requester.
EFFECTS: Final = """
    select tenant_id, split_part(subject, '/', 1) as job, split_part(subject, '/', 2) as key,
           split_part(actor, '/', 1) as actor, details ->> 'owner' as owner
      from audit_entries
     where action = %(effect)s and split_part(subject, '/', 2) like %(keys)s
"""
_EVENTS: Final = """
    select tenant_id, consumer as job, event_id as key
      from tenancy.processed_events
     where event_id like %(keys)s
"""
_MESSAGES: Final = """
    select tenant_id, id, job, key, status, split_part(workflow_id, '/', 1) as workflow_owner
      from tenancy.outbox_messages
     where key like %(keys)s
"""
_LETTERS: Final = """
    select letter.tenant_id, split_part(workflow_id, '/', 1) as owner, job,
           split_part(workflow_id, '/', 2) as workflow_job,
           split_part(workflow_id, '/', 3) as key, source, error_type, status,
           exists (
               select from tenancy.outbox_messages as message
                where message.id = letter.message_id and message.tenant_id = letter.tenant_id
                  and message.job = letter.job
                  and message.key = split_part(letter.workflow_id, '/', 3)
           ) as has_input
      from tenancy.dead_letters as letter
     where split_part(workflow_id, '/', 3) like %(keys)s
"""
# Of any scenario: no message is claimed any more.
_CLAIMED: Final = """
    select tenant_id, job, key from tenancy.outbox_messages
     where status = 'processing' and lease_until < now()
"""
_SLOTS: Final = "select tenant_id, workflow_id from tenancy.in_flight"


@dataclass(frozen=True)
class Asked:
    """What to check: the requests, and since when."""

    prefix: str  # of all its keys
    accepted: Mapping[Name, Poison | None]
    since: datetime  # aware

    @classmethod
    def of(cls, plan: Plan, since: datetime) -> Asked:
        """All accepted messages of a plan."""
        return cls(plan.prefix, plan.accepted, since)

    @property
    def sound(self) -> set[Name]:
        """The messages that must have their effect."""
        return {name for name, poison in self.accepted.items() if poison is None}

    @property
    def poison(self) -> dict[Name, Poison]:
        """The messages that must become dead letters."""
        return {name: poison for name, poison in self.accepted.items() if poison is not None}


async def problems(
    everything: Rows, client: Client, asked: Asked, *, settle: float = SETTLE_SECONDS
) -> list[str]:
    """What is not as it has to be in the end, a sentence each; empty when all is right.

    `everything` is a superuser's connection, and what its open transaction has changed is seen.
    What the list of workflows says is waited for for `settle` seconds.
    """
    state = await _State.read(everything, asked)
    return [
        *_effects(asked, state),
        *_events(asked, state),
        *_messages(asked, state),
        *_letters(asked, state),
        *(f"{_name(row)} is claimed past its lease." for row in state.claimed),
        *await _slots(everything, client, settle),
        *await _runs(client, asked, state, settle),
    ]


@dataclass(frozen=True)
class _State:
    """Everything in the database about the messages."""

    effects: list[DictRow]
    events: list[DictRow]
    messages: list[DictRow]
    letters: list[DictRow]
    claimed: list[DictRow]

    @classmethod
    async def read(cls, everything: Rows, asked: Asked) -> _State:
        values = {"effect": EFFECT, "keys": f"{asked.prefix}%"}

        async def rows(statement: str) -> list[DictRow]:
            cursor = everything.cursor(row_factory=dict_row)
            return await (await cursor.execute(statement, values)).fetchall()

        return cls(
            effects=await rows(EFFECTS),
            events=await rows(_EVENTS),
            messages=await rows(_MESSAGES),
            letters=await rows(_LETTERS),
            claimed=await rows(_CLAIMED),
        )


def _effects(asked: Asked, state: _State) -> list[str]:
    """Checks that each accepted message has one effect, in its tenant, and no other has any."""
    found = counted(asked.sound, map(_named, state.effects), "effects")
    for row in state.effects:
        if {row["actor"], row["owner"]} != {row["tenant_id"]}:
            found.append(
                f"{_name(row)} was asked for by {row['owner']}, and done by {row['actor']}."
            )
    return found


def _events(asked: Asked, state: _State) -> list[str]:
    """Checks that each is recorded as handled, in its tenant."""
    return counted(asked.sound, map(_named, state.events), "processed events")


def _messages(asked: Asked, state: _State) -> list[str]:
    """Checks that all have ended: completed ones and dead letters are those accepted."""
    found = []
    by_name: defaultdict[Name, list[DictRow]] = defaultdict(list)
    for row in state.messages:
        by_name[_named(row)].append(row)
        if row["workflow_owner"] not in (None, row["tenant_id"]):
            found.append(f"{_name(row)} is worked off by {row['workflow_owner']}.")
    for name in sorted({*by_name, *asked.accepted}):
        states = sorted(row["status"] for row in by_name[name])
        if name not in asked.accepted:
            found.append(f"{name.workflow_id} was never asked for: {states}.")
        elif not states:
            found.append(f"{name.workflow_id} is lost.")
        elif not set(states) <= set(FINAL):
            found.append(f"{name.workflow_id} has not come to an end: {states}.")
        elif name in asked.sound and states != ["completed"]:
            found.append(f"{name.workflow_id} is not completed once: {states}.")
        elif name in asked.poison and "dead_letter" not in states:
            found.append(f"{name.workflow_id} is no dead letter: {states}.")
    return found


def _letters(asked: Asked, state: _State) -> list[str]:
    """Checks that each poison is one, with its reason and input; and nothing else is."""
    found = counted(asked.poison, map(_named, state.letters), "dead letters")
    for row in state.letters:
        if (row["owner"], row["workflow_job"]) != (row["tenant_id"], row["job"]):
            found.append(f"{_name(row)} is the dead letter of {row['owner']}'s.")
        if not row["has_input"]:
            found.append(f"{_name(row)} is a dead letter without a message.")
        said = row["source"], row["error_type"], row["status"]
        poison = asked.poison.get(_named(row))
        if poison is None:
            found.append(f"{_name(row)} is a dead letter: {said}.")
        elif said != (poison.source, poison.error_type, "open"):
            found.append(f"{_name(row)} says {said} as a dead letter.")
    return found


async def _slots(everything: Rows, client: Client, settle: float) -> list[str]:
    """Checks that the workflow of each slot of a cap is running."""

    async def ended() -> list[str]:
        cursor = everything.cursor(row_factory=dict_row)
        held = await (await cursor.execute(_SLOTS)).fetchall()
        return [
            f"{row['tenant_id']} has a slot for {row['workflow_id']}, which does not run."
            for row in held
            if await _status(client, row["workflow_id"]) is not WorkflowExecutionStatus.RUNNING
        ]

    return await settled(ended, lambda found: not found, settle)


async def _runs(client: Client, asked: Asked, state: _State, settle: float) -> list[str]:
    """Checks that jobs that run alone ran once, in their tenant, for their message, and have ended.

    Refused ones have run too, and failed.
    """
    wanted = {name for name in asked.sound if name.job == ALONE}
    failing = {name for name, poison in asked.poison.items() if poison.source == "workflow"}

    async def runs() -> list[WorkflowExecution]:
        query = f"StartTime >= '{asked.since.isoformat()}'"
        every = [run async for run in client.list_workflows(query)]
        return [run for run in every if run.id.split("/", 1)[0] != PLATFORM]

    def is_done(found: list[WorkflowExecution]) -> bool:
        return all(run.status is not WorkflowExecutionStatus.RUNNING for run in found) and Counter(
            _of_run(run) for run in found if _is_done(run)
        ) >= Counter(wanted)

    listed = await settled(runs, is_done, settle)
    own = [run for run in listed if _of_run(run).key.startswith(asked.prefix)]
    found = counted(wanted, (_of_run(run) for run in own if _is_done(run)), "successful runs")
    found += counted(failing, (_of_run(run) for run in own if not _is_done(run)), "failed runs")
    names = {str(row["id"]): _named(row) for row in state.messages}
    for run in listed:
        name = _of_run(run)
        if run.status is WorkflowExecutionStatus.RUNNING:
            found.append(f"{run.id} is open.")
        attributes = run.typed_search_attributes
        said = attributes.get(TENANT_ID), attributes.get(JOB)
        if said != (name.tenant, name.job):
            found.append(f"{run.id} is listed as {said}.")
        message = await run.memo_value(MESSAGE, default=None, type_hint=str)
        asked_for = name.key.startswith(asked.prefix)  # others' messages are not in `names`
        if asked_for and message is not None and names.get(message) != name:
            found.append(f"{run.id} was started for {names.get(message)}.")
    return found


def counted(expected: Iterable[Name], found: Iterable[Name], what: str) -> list[str]:
    """Returns the names that do not appear exactly once, and the unexpected ones."""
    right, counted = dict.fromkeys(expected, 1), Counter(found)
    return [
        f"{name.workflow_id} has {counted[name]} {what}, not {right.get(name, 0)}."
        for name in sorted({*right, *counted})
        if counted[name] != right.get(name, 0)
    ]


def _named(row: DictRow) -> Name:
    return Name(row["tenant_id"], row["job"], row["key"])


def _name(row: DictRow) -> str:
    return _named(row).workflow_id


def _of_run(run: WorkflowExecution) -> Name:
    return Name(*run.id.split("/", 2))


def _is_done(run: WorkflowExecution) -> bool:
    return run.status is WorkflowExecutionStatus.COMPLETED


async def _status(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    run = await if_known(client.get_workflow_handle(workflow_id).describe())
    return None if run is None else run.status
