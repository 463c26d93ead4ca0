"""Schedules of fan-outs: declared in code, and put on the server as they are declared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from croniter import croniter
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from temporal_tenancy.errors import ConfigurationError, TenancyError
from temporal_tenancy.fan_out.models import FanOutInput
from temporal_tenancy.fan_out.workflows import FanOut, child_input
from temporal_tenancy.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.jobs import Job, registry

CATCHUP_WINDOW: Final = timedelta(days=7)
"""Ticks that fell due while the server was away are run if they are no older than this."""

OVERLAP: Final = ScheduleOverlapPolicy.BUFFER_ALL
"""A tick that is due while the one before still runs waits for it. None is dropped: under the
server's default, a backfill of twelve months would run one."""


@dataclass(frozen=True)
class ScheduledJob:
    """A tenant job that is run for every tenant, at the times of a cron line."""

    job: str
    cron: str  # five fields, in UTC
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the job's input
    catchup_window: timedelta = CATCHUP_WINDOW

    @property
    def id(self) -> str:
        """The schedule's id: `platform/{job}`."""
        return f"{PLATFORM}/{self.job}"

    @property
    def workflow_id(self) -> str:
        """The id of its runs, to which the server appends the nominal time."""
        return str(WorkflowId(PLATFORM, self.job, "tick"))

    def check(self) -> Job:
        """Returns the job; raises `ConfigurationError` when the declaration cannot work."""
        if not croniter.is_valid(self.cron) or len(self.cron.split()) != 5:
            raise ConfigurationError(
                f'the schedule of {self.job} has the cron line "{self.cron}", which is not one: '
                'five fields, as in "0 6 1 * *".'
            )
        try:
            job = registry.get_or_raise(self.job)
            if job.kind != "tenant":
                raise ConfigurationError(f"{self.job} is no tenant job, so it has no fan-out.")
            tick = job.period.key_now() if job.period else "tick"
            child_input(job, "a", tick, self.extra)
        except TenancyError as error:
            raise ConfigurationError(f"the schedule of {self.job}: {error.sentence}") from None
        return job

    def schedule(self) -> Schedule:
        """What the server is to keep."""
        job = self.check()
        return Schedule(
            action=ScheduleActionStartWorkflow(
                FanOut.run,
                FanOutInput(job=job.name, extra=self.extra),
                id=self.workflow_id,
                task_queue=job.queue,
            ),
            spec=ScheduleSpec(cron_expressions=[self.cron]),
            policy=SchedulePolicy(overlap=OVERLAP, catchup_window=self.catchup_window),
            state=ScheduleState(note=job.summary),
        )


class Applied(StrEnum):
    """What applying a schedule came to."""

    CREATED = "created"
    UPDATED = "updated"


def check_all(schedules: Iterable[ScheduledJob]) -> None:
    """Raises `ConfigurationError` for the first declaration that cannot work, or is there twice."""
    seen: set[str] = set()
    for scheduled in schedules:
        scheduled.check()
        if scheduled.job in seen:
            raise ConfigurationError(f"{scheduled.job} is scheduled twice. Leave one.")
        seen.add(scheduled.job)


async def apply(client: Client, schedules: Sequence[ScheduledJob]) -> dict[str, Applied]:
    """Puts schedules on the server; done twice, it changes nothing. A pause stays a pause.

    All are checked before the first is touched. Returns what was done, by schedule id.
    """
    check_all(schedules)
    done: dict[str, Applied] = {}
    for scheduled in schedules:
        try:
            await client.create_schedule(scheduled.id, scheduled.schedule())
            done[scheduled.id] = Applied.CREATED
        except ScheduleAlreadyRunningError:
            await _update(client, scheduled)
            done[scheduled.id] = Applied.UPDATED
    return done


async def _update(client: Client, scheduled: ScheduledJob) -> None:
    wanted = scheduled.schedule()

    def updater(current: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(wanted)

    await client.get_schedule_handle(scheduled.id).update(updater)
