"""Compares the declared schedules with the server's, and controls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any, Final

import typer
from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    ScheduleBackfill,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleOverlapPolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli._arguments import day_or_time
from temporal_tenancy.cli._failures import ScheduleUnknown
from temporal_tenancy.cli._fairness import warn_where_known_off
from temporal_tenancy.cli._server_access import Temporal, temporal
from temporal_tenancy.cli.answers import (
    Answer,
    address,
    lines,
    minute,
    say,
    sentence,
    table,
    when,
    whole,
)
from temporal_tenancy.cli.program import current_application, current_program, quoted
from temporal_tenancy.core.due_times import times
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.sdk.lookups import if_known, is_namespace_missing
from temporal_tenancy.sdk.search_attributes import (
    MAY_NOT,
    SEARCH_ATTRIBUTES,
    register_search_attributes,
)
from temporal_tenancy.ticks import schedules as declared_schedules
from temporal_tenancy.ticks.fan_out import tick_of
from temporal_tenancy.ticks.schedule_drift import differences
from temporal_tenancy.ticks.schedules import ScheduledJob, check_all

_NONE: Final = "The application declares no schedules."
MANY: Final = 100  # ticks that a backfill runs without being asked twice
FIRST_TICK: Final = datetime(1970, 1, 1, tzinfo=UTC)  # the server starts none before
MOST: Final = 10_000  # ticks of a backfill
SHOWN: Final = 24  # ticks of a backfill, in the text for people
TRIGGER_TIMEOUT: Final = 5.0  # seconds to wait for a triggered run
TRIGGER_INTERVAL: Final = 0.2  # seconds between looks


async def apply() -> Answer:
    """Puts every declared schedule on the server, and registers the search attributes.

    Raises:
        ConfigurationError: a declaration is not valid; nothing was changed.
        SearchAttributesMissing: they cannot be registered; no schedule was applied.
    """
    schedules = current_application().every_schedule
    check_all(schedules)
    async with temporal() as connection:
        await warn_where_known_off(connection.client.namespace)
        registered = await _register(connection.client)
        done = await declared_schedules.apply(connection.client, schedules)
        documents = [
            {
                "schedule_id": s.id,
                "job": s.job,
                "cron": s.cron,
                "local_time": s.local_time,
                "done": done[s.id],
                "warning": s.warning,
                "url": connection.schedule_link(s.id),
            }
            for s in schedules
        ]
    rows = [(d["job"], _due(d), d["done"]) for d in documents]
    return Answer(
        {"schedules": documents, "search_attributes_registered": list(registered)},
        lines(
            table(("job", "cron", ""), rows, empty=_NONE),
            f"Registered the search attributes {', '.join(registered)}." if registered else None,
            *_warnings(),
        ),
    )


async def _register(client: Client) -> Sequence[str]:
    try:
        return await register_search_attributes(client)
    except RPCError as error:
        if error.status not in MAY_NOT:
            raise
        say(
            f"This account may not list search attributes. {' and '.join(SEARCH_ATTRIBUTES)}, both "
            f'Keyword, must be in the namespace "{client.namespace}".'
        )
        return ()


async def show_all() -> Answer:
    """Shows every declared schedule as it is on the server, and every undeclared one.

    Raises `ConfigurationError` for a declaration that is not valid.
    """
    async with temporal() as connection:
        documents = await compare(connection)
    rows = [
        (
            d["job"],
            _due(d),
            _state_for_people(d),
            minute(d["next_run"]),
            minute(d["last_run"]["nominal_time"]) if d["last_run"] else None,
            d["overlap"] and d["overlap"].replace("_", " "),
            _length(d["catchup_window_seconds"]),
        )
        for d in documents
    ]
    titles = ("job", "cron", "state", "next", "last", "overlap", "catch-up window")
    return Answer(documents, lines(table(titles, rows, empty=_NONE), *_warnings()))


def _warnings() -> Sequence[str]:
    return [
        f"Note: {schedule.warning}"
        for schedule in current_application().every_schedule
        if schedule.warning
    ]


async def compare(connection: Temporal) -> list[dict[str, Any]]:
    """Compares the declared schedules with those on the server, undeclared ones included.

    `state` is applied, changed (`differs` says where), missing or undeclared.
    """
    schedules = current_application().every_schedule
    check_all(schedules)
    client = connection.client
    documents = []
    for declared in schedules:
        description, differs = await _state(client, declared)
        documents.append(_document(connection, declared.id, declared, description, list(differs)))
    known = {declared.id for declared in schedules}
    async for listed in await client.list_schedules():
        if listed.id.startswith(f"{PLATFORM}/") and listed.id not in known:
            description = await if_known(client.get_schedule_handle(listed.id).describe())
            if description is not None:
                documents.append(_document(connection, listed.id, None, description, []))
    return documents


async def pause(job: str, reason: str | None) -> Answer:
    """Pauses a job's schedule."""
    return await _set_paused(job, True, reason or f"paused by {current_program().name}")


async def resume(job: str, reason: str | None) -> Answer:
    """Resumes a job's schedule."""
    return await _set_paused(job, False, reason or f"resumed by {current_program().name}")


async def trigger(job: str) -> Answer:
    """Starts a tick now, or after the running one."""
    declared = _declared(job)
    declared.check()
    async with temporal() as connection, _known(connection.client, declared) as handle:
        before = await handle.describe()
        await handle.trigger()
        run = await _triggered(handle, before)
    url = connection.schedule_link(declared.id)
    if run is not None:
        url = connection.link(run.workflow_id, run.first_execution_run_id)
    document = {
        "schedule_id": declared.id,
        "job": job,
        "workflow_id": None if run is None else run.workflow_id,
        "run_id": None if run is None else run.first_execution_run_id,
        "url": url,
    }
    text = (
        sentence(whole(run.workflow_id), "has started.")
        if run is not None
        else f"{declared.id} is triggered, and waits for the running tick to end."
    )
    return Answer(document, lines(text, address(url)))


async def backfill(job: str, since: str, until: str, *, yes: bool = False) -> Answer:
    """Runs the ticks whose nominal times lie between two times, inclusive, one after the other.

    A date without a time means the whole day, in UTC. Raises `typer.BadParameter` if no tick was
    due between them, if the first time lies before 1970, or if there are more than `MANY` ticks
    and not `yes`, or more than `MOST`.
    """
    declared = _declared(job)
    known = declared.check()
    first, last = day_or_time(since, option="--from"), day_or_time(until, option="--to")
    if last.time() == time():
        last += timedelta(days=1, seconds=-1)
    if last < first:
        raise typer.BadParameter(
            f"{when(first)} is after {when(last)}. Put the earlier time in --from.",
            param_hint="--from and --to",
        )
    if first < FIRST_TICK:
        raise typer.BadParameter(
            "the server starts no tick before 1970. Choose a later time.", param_hint="--from"
        )
    due = list(islice(times(declared.server_cron, first, last + timedelta(seconds=1)), MOST + 1))
    if len(due) > MOST:
        raise typer.BadParameter(
            f"these are more than {MOST:,} ticks. Backfill them in parts.",
            param_hint="--from and --to",
        )
    if not due:
        raise typer.BadParameter(
            f'no tick of {job} ("{declared.cron}") is due from {when(first)} to {when(last)}.',
            param_hint="--from and --to",
        )
    if len(due) > MANY and not yes:
        raise typer.BadParameter(
            f"these are {_ticks_of(known, due)}, and the next waits until the one before has "
            "ended. Add --yes to run them.",
            param_hint="--from and --to",
        )
    async with temporal() as connection, _known(connection.client, declared) as handle:
        await handle.backfill(
            ScheduleBackfill(
                start_at=first - timedelta(seconds=1),  # exclusive
                end_at=last,
                # With the server's default it dropped eleven of twelve ticks.
                overlap=ScheduleOverlapPolicy.BUFFER_ALL,
            )
        )
        runs = [_nominal_run(connection, declared, known, nominal) for nominal in due]
    document = {
        "schedule_id": declared.id,
        "job": job,
        "runs": runs,
        "url": connection.schedule_link(declared.id),
    }
    order = ", one after the other" if len(runs) > 1 else ""
    text = f"{declared.id} runs {_ticks_of(known, due)}{order}."
    addresses = [
        address(run["url"], whole(run["tick"]), f"due {minute(run['nominal_time'])}")
        for run in runs[:SHOWN]
    ]
    more = len(runs) - len(addresses)
    return Answer(
        document,
        lines(text, *addresses, f"and {more:,} more; --json shows all." if more else None),
    )


def _ticks_of(job: Job, due: Sequence[datetime]) -> str:
    """Returns how many ticks there are, with the first and the last one."""
    first, last = tick_of(job, due[0]), tick_of(job, due[-1])
    count = number(len(due), "tick")
    return f"{count}, {first}" if first == last else f"{count}, from {first} to {last}"


def _nominal_run(
    connection: Temporal, declared: ScheduledJob, job: Job, nominal: datetime
) -> dict[str, Any]:
    """Returns the run that the schedule starts, or has started, for a nominal time."""
    workflow_id = f"{declared.workflow_id}-{nominal:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "tick": tick_of(job, nominal),
        "nominal_time": nominal,
        "workflow_id": workflow_id,
        "url": connection.link(workflow_id),
    }


async def _set_paused(job: str, paused: bool, note: str) -> Answer:
    declared = _declared(job)
    async with temporal() as connection, _known(connection.client, declared) as handle:
        await (handle.pause(note=note) if paused else handle.unpause(note=note))
    document = {"schedule_id": declared.id, "job": job, "paused": paused, "note": note}
    return Answer(document, f"{declared.id} is {'paused' if paused else 'in force'}: {note}.")


def _declared(job: str) -> ScheduledJob:
    registry.get_or_raise(job)
    schedules = current_application().every_schedule
    for scheduled in schedules:
        if scheduled.job == job:
            return scheduled
    raise ScheduleUnknown(
        f"{job} has no schedule. {current_program().schedules} declares those of: "
        f"{', '.join(scheduled.job for scheduled in schedules)}."
    )


@asynccontextmanager
async def _known(client: Client, declared: ScheduledJob) -> AsyncIterator[ScheduleHandle]:
    try:
        yield client.get_schedule_handle(declared.id)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
            raise
        raise ScheduleUnknown(
            f"the schedule {declared.id} is not on the server. {quoted('schedules apply')} puts it "
            "there."
        ) from None


async def _state(
    client: Client, declared: ScheduledJob
) -> tuple[ScheduleDescription | None, list[str]]:
    """Returns the schedule on the server, and where it differs from the declared one."""
    description = await if_known(client.get_schedule_handle(declared.id).describe())
    if description is None:
        return None, []
    wanted, line = declared.schedule(), declared.server_line
    return description, list(await differences(client, wanted, line, description))


async def _triggered(
    handle: ScheduleHandle, before: ScheduleDescription
) -> ScheduleActionExecutionStartWorkflow | None:
    """Returns the run that a trigger started; None if it does not appear in a few seconds."""
    seen = {_run_id(action.action) for action in before.info.recent_actions}
    for _ in range(int(TRIGGER_TIMEOUT / TRIGGER_INTERVAL)):
        description = await handle.describe()
        for recent in reversed(description.info.recent_actions):
            if _run_id(recent.action) not in seen and isinstance(
                recent.action, ScheduleActionExecutionStartWorkflow
            ):
                return recent.action
        if description.info.running_actions and before.info.running_actions:
            return None
        await asyncio.sleep(TRIGGER_INTERVAL)
    return None


def _run_id(action: object) -> str | None:
    if isinstance(action, ScheduleActionExecutionStartWorkflow):
        return action.first_execution_run_id
    return None


def _document(
    connection: Temporal,
    schedule_id: str,
    declared: ScheduledJob | None,
    description: ScheduleDescription | None,
    differs: list[str],
) -> dict[str, Any]:
    state = "applied"
    if description is None:
        state = "missing"
    elif declared is None:
        state = "undeclared"
    elif differs:
        state = "changed"
    document: dict[str, Any] = {
        "schedule_id": schedule_id,
        "job": declared.job if declared else schedule_id.removeprefix(f"{PLATFORM}/"),
        "cron": declared.cron if declared else None,
        "local_time": declared.local_time if declared else None,
        "state": state,
        "differs": differs,
        "warning": declared.warning if declared else None,
        "paused": None,
        "note": None,
        "next_run": None,
        "last_run": None,
        "overlap": None,
        "catchup_window_seconds": None,
        "url": connection.schedule_link(schedule_id),
    }
    if description is not None:
        policy, info = description.schedule.policy, description.info
        is_paused = description.schedule.state.paused
        document |= {
            "paused": is_paused,
            "note": description.schedule.state.note,
            # The server tells the times at which a paused one would be due.
            "next_run": None if is_paused else next(iter(info.next_action_times), None),
            "last_run": _last_run(connection, description),
            "overlap": policy.overlap.name.lower(),
            "catchup_window_seconds": _seconds(policy.catchup_window),
        }
    return document


def _last_run(connection: Temporal, description: ScheduleDescription) -> dict[str, Any] | None:
    if not description.info.recent_actions:
        return None
    last = description.info.recent_actions[-1]
    if not isinstance(last.action, ScheduleActionExecutionStartWorkflow):
        return None
    return {
        "nominal_time": last.scheduled_at,
        "started_at": last.started_at,
        "workflow_id": last.action.workflow_id,
        "run_id": last.action.first_execution_run_id,
        "url": connection.link(last.action.workflow_id, last.action.first_execution_run_id),
    }


def _seconds(window: timedelta | None) -> int | None:
    return None if window is None else int(window.total_seconds())


def _due(document: dict[str, Any]) -> str | None:
    """Returns when a schedule is due, with whose time that is."""
    if document["cron"] is None:
        return None
    whose = "tenants' time" if document["local_time"] else "UTC"
    return f"{document['cron']}, {whose}"


def _length(seconds: int | None) -> str | None:
    return None if seconds is None else duration(timedelta(seconds=seconds))


def _state_for_people(document: dict[str, Any]) -> str:
    words = [document["state"]]
    if document["differs"]:
        words.append(f"differs in {' and '.join(document['differs'])}")
    if document["paused"]:
        words.append("paused")
    return ", ".join(words)
