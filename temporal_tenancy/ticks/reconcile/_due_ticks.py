"""Reads from the server's schedules which ticks were due."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleDescription

from temporal_tenancy.core.cron import CronInvalid
from temporal_tenancy.core.due_times import EARLIEST, times
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.ticks.fan_out.payloads import FanOutInput
from temporal_tenancy.ticks.fan_out.planning import tick_of

TICKS_KEPT: Final = timedelta(days=90)
GRACE: Final = timedelta(minutes=15)  # time that a tick has to begin after it is due

log: Final = logging.getLogger(__name__)

_LATEST: Final = timedelta(hours=12)  # behind UTC, in the zones where a date ends last


@dataclass(frozen=True)
class DueTick:
    """A tick that should have begun by now."""

    job: Job
    tick: str
    nominal_time: datetime  # aware
    paused: str | None  # the schedule's note while it is paused; None: it is not paused
    workflow_id: str | None  # of its fan-out; None: tenant-local, so several fan-outs serve it


async def due_ticks(client: Client, now: datetime) -> AsyncIterator[DueTick]:
    """Yields the ticks that were due in the last 90 days, of all schedules that start fan-outs.

    Only ticks since a schedule's last update count. For a job without a period, only the last tick
    counts, because it makes up for those before it. A tick that the server holds back behind a
    running one is not due yet.

    Args:
        client: of the namespace that has the schedules.
        now: aware.

    Raises:
        RPCError: the server does not answer.
    """
    async for listed in await client.list_schedules():
        if not listed.id.startswith(f"{PLATFORM}/"):
            continue
        description = await if_known(client.get_schedule_handle(listed.id).describe())
        if description is None:  # deleted since it was listed
            continue
        request = await _fan_out_of(client, description)
        job = registry.get(request.job) if request is not None else None
        if request is None or job is None:
            continue
        in_force = description.info.last_updated_at or description.info.created_at
        since, until = max(in_force, now - TICKS_KEPT), now - GRACE
        if since >= until:
            continue
        try:
            found = (
                list(_local_ticks(job, request, since, until))
                if request.local_time
                else await _ticks(client, description, job, since, until)
            )
        except CronInvalid as error:  # from an earlier release; other schedules are still read
            log.error("schedule.unreadable", extra={"schedule": listed.id, "error": error.message})
            continue
        state = description.schedule.state
        paused = (state.note or "") if state.paused else None
        for tick, nominal in found if job.period else found[-1:]:
            fan_out = f"{_action(description).id}-{nominal:%Y-%m-%dT%H:%M:%SZ}"
            yield DueTick(
                job, tick, nominal, paused, workflow_id=None if request.local_time else fan_out
            )


async def _ticks(
    client: Client, description: ScheduleDescription, job: Job, since: datetime, until: datetime
) -> Sequence[tuple[str, datetime]]:
    start, end = Timestamp(), Timestamp()
    end.FromDatetime(until)
    nominals: list[datetime] = []
    while True:  # the server returns at most a thousand at once
        start.FromDatetime(nominals[-1] + timedelta(seconds=1) if nominals else since)
        answer = await client.workflow_service.list_schedule_matching_times(
            ListScheduleMatchingTimesRequest(
                namespace=client.namespace,
                schedule_id=description.id,
                start_time=start,
                end_time=end,
            )
        )
        if not answer.start_time:
            break
        nominals += [time.ToDatetime(tzinfo=UTC) for time in answer.start_time]
    waiting = description.raw_description.info.buffer_size
    if waiting:
        nominals = nominals[:-waiting]
    return [(tick_of(job, nominal), nominal) for nominal in nominals]


def _local_ticks(
    job: Job, request: FanOutInput, since: datetime, until: datetime
) -> Iterator[tuple[str, datetime]]:
    """Yields the ticks whose local time has passed in every zone, and in none before `since`."""
    if request.cron is None or job.period is None:
        return
    first = since.astimezone(UTC).replace(tzinfo=None) + EARLIEST
    last = until.astimezone(UTC).replace(tzinfo=None) - _LATEST
    for local in times(request.cron, first, last):
        yield job.period.key_before(local), local.replace(tzinfo=UTC)


def _action(description: ScheduleDescription) -> ScheduleActionStartWorkflow:
    action = description.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    return action


async def _fan_out_of(client: Client, description: ScheduleDescription) -> FanOutInput | None:
    """Returns the input of a schedule's fan-outs; None if it starts something else."""
    action = description.schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow) or action.workflow != "fan_out.tick":
        return None
    [request] = await client.data_converter.decode(action.args, [FanOutInput])
    return request if isinstance(request, FanOutInput) else None
