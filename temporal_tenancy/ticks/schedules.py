"""Schedules: declared in code and applied to the server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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
from temporal_tenancy.core.field_problems import problem_of_field
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.tenant_id_types import example_id
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.ticks.fan_out.children import child_input, require_shared
from temporal_tenancy.ticks.fan_out.payloads import FanOutInput
from temporal_tenancy.ticks.fan_out.planning import LOCAL_STEP
from temporal_tenancy.ticks.fan_out.workflows import FanOut
from temporal_tenancy.ticks.schedule_drift import differences

CATCHUP_WINDOW: Final = timedelta(days=7)
"""Ticks that became due while the server was unavailable still run if they are no older."""

OVERLAP: Final = ScheduleOverlapPolicy.BUFFER_ALL
"""A tick that becomes due while the one before still runs waits for it. None is dropped: with the
server's default policy, a backfill of twelve months would run one."""

LOCAL_OVERLAP: Final = ScheduleOverlapPolicy.ALLOW_ALL
"""Tenants in one time zone do not wait for those in another."""

PLATFORM_OVERLAP: Final = ScheduleOverlapPolicy.SKIP
"""A platform job works on the current state, so the next run makes up for a dropped one."""

LOCAL_CRON: Final = f"*/{LOCAL_STEP.seconds // 60} * * * *"


@spelled
@dataclass(frozen=True)
class ScheduledJob:
    """The schedule of a tenant job, which runs for every tenant, or of a platform job."""

    job: str
    cron: str  # five fields, in UTC; with `local_time` in each tenant's time zone
    extra: dict[str, Any] = field(default_factory=dict)  # more fields of the job's input
    catchup_window: timedelta = CATCHUP_WINDOW
    local_time: bool = False  # whether `cron` is in each tenant's time zone
    statuses: Sequence[TenantStatus] | None = None  # of the tenants; None: all but deleted
    spread: timedelta = timedelta()  # each tenant starts at a fixed offset within it; a day at most
    max_starts_per_second: float | None = None  # of tenants' children; None: no limit
    queue: str | None = None  # the task queue of its runs, if a platform job; None: the job's own

    @property
    def id(self) -> str:
        """The schedule's id: `platform/{job}`."""
        return f"{PLATFORM}/{self.job}"

    @property
    def workflow_id(self) -> str:
        """The workflow id of its runs, to which the server appends the nominal time."""
        return str(WorkflowId(PLATFORM, self.job, "tick"))

    @property
    def server_cron(self) -> str:
        """The server's cron line, in UTC; with `local_time`, it fires every 15 minutes."""
        return LOCAL_CRON if self.local_time else self.cron

    @property
    def server_line(self) -> CronLine:
        """The parsed `server_cron`; raises `CronInvalid`."""
        return read_cron(self.server_cron)

    @property
    def warning(self) -> str | None:
        """A warning about times that are valid but probably a mistake; None if there is none.

        Raises:
            CronInvalid: `cron` is malformed.
        """
        job = registry.get(self.job)
        if job is None or job.period is None or not read_cron(self.cron).fires_again_in(job.period):
            return None
        return (
            f"{self.job} works on one {job.period} and is due more than once in it: after the "
            "first run has succeeded, the others do nothing."
        )

    @property
    def fan_out(self) -> FanOutInput:
        """The input of its fan-outs, if the job is a tenant job.

        Raises:
            ValidationError: a field is out of range.
        """
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
        """Validates the declaration and returns its job.

        Raises:
            ConfigurationError: the job is unknown, the cron line is malformed, or the other fields
                do not fit the job.
        """
        try:
            self._check_types()
            read_cron(self.cron)
            job = registry.get_or_raise(self.job)
            if job.kind == "tenant":
                tick = job.period.key_now() if job.period else "tick"
                require_shared(job, self.extra)
                child_input(job, example_id(), tick, self.extra)
            else:
                read_input(job.input_model, self.extra, what=f"the input of {job.name}")
            self._check_times(job)
        except TenancyError as error:
            raise ConfigurationError(f"the schedule of {self.job}: {error.sentence}") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"the schedule of {self.job}: {error}") from None
        return job

    def schedule(self) -> Schedule:
        """Builds the schedule for the server.

        Raises:
            ConfigurationError: as for `check()`.
        """
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
        common: dict[str, Any] = {"id": self.workflow_id, "task_queue": self.queue or job.queue}
        if job.kind == "tenant":
            return ScheduleActionStartWorkflow(FanOut.run, self.fan_out, **common)
        model = job.input_model.model_validate(self.extra)
        return ScheduleActionStartWorkflow(
            job.name, args=[model] if job.takes_input else [], **common
        )

    def _check_types(self) -> None:
        """Raises `ConfigurationError` for a field of another type than the one declared."""
        wanted = {"job": str, "cron": str, "extra": dict, "local_time": bool}
        wanted |= {"spread": timedelta, "catchup_window": timedelta}
        for name, type in wanted.items():
            value = getattr(self, name)
            if not isinstance(value, type):
                raise ConfigurationError(
                    f"{name} must be a {type.__name__}, and {value!r} is none."
                )
        if "tenant_id" in self.extra:
            raise ConfigurationError(
                "extra names a tenant_id, but each tenant's run has its own. Remove it."
            )

    def _check_times(self, job: Job) -> None:
        if job.kind == "platform":
            if self.local_time or self.spread or self.statuses or self.max_starts_per_second:
                raise ConfigurationError(
                    f"{job.name} is a platform job, so local_time, spread, statuses and "
                    "max_starts_per_second do not apply. Remove them."
                )
            return
        if self.queue is not None:
            raise ConfigurationError(
                f"{job.name} is a tenants' job and runs on its own queue, {job.queue}. Remove "
                "queue from its schedule."
            )
        if self.local_time and job.period is None:
            raise ConfigurationError(
                f"{job.name} is scheduled at the tenants' local time but has no period, so its "
                "runs of one day could not be distinguished. Declare the job with a period."
            )
        try:
            _ = self.fan_out
        except ValidationError as error:
            problem = problem_of_field(error.errors(include_url=False)[0])
            raise ConfigurationError(f"{problem}.") from None


def with_those_of(
    schedules: Sequence[ScheduledJob], features: Iterable[Feature]
) -> Sequence[ScheduledJob]:
    """Returns an application's schedules, then those that its features bring.

    If both schedule the same job, the application's declaration applies. A queue that it does not
    name is the feature's.
    """
    brought = {schedule.job: schedule for each in features for schedule in each.schedules}
    own = [
        replace(scheduled, queue=brought[scheduled.job].queue)
        if scheduled.queue is None and scheduled.job in brought
        else scheduled
        for scheduled in schedules
    ]
    declared = {scheduled.job for scheduled in own}
    return [
        *own,
        *(
            ScheduledJob(
                schedule.job,
                schedule.cron,
                catchup_window=schedule.catchup_window or CATCHUP_WINDOW,
                queue=schedule.queue,
            )
            for schedule in brought.values()
            if schedule.job not in declared
        ),
    ]


class Applied(StrEnum):
    """What applying a schedule did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


def check_all(schedules: Iterable[ScheduledJob]) -> None:
    """Validates all declarations.

    Raises:
        ConfigurationError: one is invalid, or a job is scheduled twice.
    """
    seen: set[str] = set()
    for scheduled in schedules:
        scheduled.check()
        if scheduled.job in seen:
            raise ConfigurationError(f"{scheduled.job} is scheduled twice. Remove one schedule.")
        seen.add(scheduled.job)


async def apply(client: Client, schedules: Sequence[ScheduledJob]) -> dict[str, Applied]:
    """Creates or updates schedules on the server; idempotent. A paused schedule stays paused.

    All declarations are validated before the first schedule is changed.

    Returns:
        What was done, by schedule id.

    Raises:
        ConfigurationError: as for `check_all`.
        RPCError: the server does not answer; some schedules may have been applied.
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
    # Do not update an unchanged schedule: missed ticks are looked for from its last update on.
    if not await differences(client, wanted, scheduled.server_line, await handle.describe()):
        return Applied.UNCHANGED

    def updater(current: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(wanted)

    await handle.update(updater)
    return Applied.UPDATED
