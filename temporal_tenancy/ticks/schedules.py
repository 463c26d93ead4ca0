"""Schedules: declared in code, and put on the server as they are declared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError
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

from temporal_tenancy.core.cron import CronLine, read_cron
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.ticks.fan_out.payloads import FanOutInput
from temporal_tenancy.ticks.fan_out.planning import LOCAL_STEP
from temporal_tenancy.ticks.fan_out.workflows import FanOut, child_input
from temporal_tenancy.ticks.schedule_drift import differences

CATCHUP_WINDOW: Final = timedelta(days=7)
"""Ticks that fell due while the server was away are run if they are no older than this."""

OVERLAP: Final = ScheduleOverlapPolicy.BUFFER_ALL
"""A tick that is due while the one before still runs waits for it. None is dropped: under the
server's default, a backfill of twelve months would run one."""

LOCAL_OVERLAP: Final = ScheduleOverlapPolicy.ALLOW_ALL
"""A tenant in one time zone does not wait for those of another."""

PLATFORM_OVERLAP: Final = ScheduleOverlapPolicy.SKIP
"""The platform's own work is about the present: the next run does what one in between would."""

LOCAL_CRON: Final = f"*/{LOCAL_STEP.seconds // 60} * * * *"


@dataclass(frozen=True)
class ScheduledJob:
    """A tenant job that is run for every tenant, or a job of the platform's, by a cron line."""

    job: str
    cron: str  # five fields, in UTC, or on each tenant's wall clock
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the job's input
    catchup_window: timedelta = CATCHUP_WINDOW
    local_time: bool = False  # the line is in the tenants' own time zones
    statuses: Sequence[TenantStatus] | None = None  # only for these; None: all but deleted ones
    spread: timedelta = timedelta()  # over which the tenants' starts are spread, each at its time
    max_starts_per_second: float | None = None  # of tenants' children; None: no limit

    @property
    def id(self) -> str:
        """The schedule's id: `platform/{job}`."""
        return f"{PLATFORM}/{self.job}"

    @property
    def workflow_id(self) -> str:
        """The id of its runs, to which the server appends the nominal time."""
        return str(WorkflowId(PLATFORM, self.job, "tick"))

    @property
    def server_cron(self) -> str:
        """The line that the server goes by, in UTC: local times are looked for every 15 minutes."""
        return LOCAL_CRON if self.local_time else self.cron

    @property
    def server_line(self) -> CronLine:
        """`server_cron` as it is read; raises `CronInvalid`."""
        return read_cron(self.server_cron)

    @property
    def warning(self) -> str | None:
        """What its author should know of its times, though it can work; None: nothing."""
        job = registry.get(self.job)
        if job is None or job.period is None or not read_cron(self.cron).fires_again_in(job.period):
            return None
        return (
            f"{self.job} is about one {job.period} and due more than once in it: after the first "
            "run has succeeded, the others do nothing."
        )

    @property
    def fan_out(self) -> FanOutInput:
        """What its runs take, if the job is a tenant's."""
        return FanOutInput(
            job=self.job,
            extra=self.extra,
            statuses=None if self.statuses is None else list(self.statuses),
            cron=self.cron if self.local_time or self.spread else None,
            local_time=self.local_time,
            spread=self.spread,
            max_starts_per_second=self.max_starts_per_second,
        )

    def check(self) -> Job:
        """Returns the job; raises `ConfigurationError` when the declaration cannot work."""
        try:
            read_cron(self.cron)
            job = registry.get_or_raise(self.job)
            if job.kind == "tenant":
                tick = job.period.key_now() if job.period else "tick"
                child_input(job, "a", tick, self.extra)
            else:
                read_input(job.input_model, self.extra, what=f"the input of {job.name}")
            self._check_times(job)
        except TenancyError as error:
            raise ConfigurationError(f"the schedule of {self.job}: {error.sentence}") from None
        return job

    def schedule(self) -> Schedule:
        """What the server is to keep."""
        job = self.check()
        overlap = LOCAL_OVERLAP if self.local_time else OVERLAP
        return Schedule(
            action=self._action(job),
            spec=ScheduleSpec(calendars=[self.server_line.calendar()]),
            policy=SchedulePolicy(
                overlap=overlap if job.kind == "tenant" else PLATFORM_OVERLAP,
                catchup_window=self.catchup_window,
            ),
            state=ScheduleState(note=job.summary),
        )

    def _action(self, job: Job) -> ScheduleActionStartWorkflow:
        common: dict[str, Any] = {"id": self.workflow_id, "task_queue": job.queue}
        if job.kind == "tenant":
            return ScheduleActionStartWorkflow(FanOut.run, self.fan_out, **common)
        model = job.input_model.model_validate(self.extra)
        return ScheduleActionStartWorkflow(
            job.name, args=[model] if job.takes_input else [], **common
        )

    def _check_times(self, job: Job) -> None:
        if job.kind == "platform":
            if self.local_time or self.spread or self.statuses or self.max_starts_per_second:
                raise ConfigurationError(
                    f"{job.name} is the platform's: it has no tenants whose times could differ."
                )
            return
        if self.local_time and job.period is None:
            raise ConfigurationError(
                f"{job.name} is to run at the tenants' local time, but is about no period, so its "
                "runs of one day could not be told apart. Declare it with a period."
            )
        try:
            _ = self.fan_out
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise ConfigurationError(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}."
            ) from None


class Applied(StrEnum):
    """What applying a schedule came to."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


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
            done[scheduled.id] = await _update(client, scheduled)
    return done


async def _update(client: Client, scheduled: ScheduledJob) -> Applied:
    wanted = scheduled.schedule()
    handle = client.get_schedule_handle(scheduled.id)
    # What is as it should be stays untouched: since when a schedule is in force tells which of
    # its ticks were missed.
    if not await differences(client, wanted, scheduled.server_line, await handle.describe()):
        return Applied.UNCHANGED

    def updater(current: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(wanted)

    await handle.update(updater)
    return Applied.UPDATED
