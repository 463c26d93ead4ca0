"""Jobs that talk, that last as long as a test wants, and that take their time to die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.inputs import PlatformInput, TenantInput
from temporal_tenancy.core.jobs import platform_job, tenant_job
from temporal_tenancy.sdk.heartbeats import heartbeating

SOON = timedelta(seconds=30)
ONCE = RetryPolicy(maximum_attempts=1)
CANARY = "canary-3f1c"

log = structlog.get_logger(__name__)
plain = logging.getLogger(__name__)


class Talk(BaseModel):
    secret: str = CANARY
    fail: bool = False


class TalkInput(TenantInput):
    fail: bool = False


@tenant_activity
async def talk(request: Talk) -> None:
    log.info("activity.spoke", how="structlog", request=request, api_key=CANARY)
    plain.info("activity.spoke", extra={"how": "standard library"})
    activity.logger.info("activity.spoke", extra={"how": "activity.logger"})
    log.info("activity.connected", url=f"postgresql://role:{CANARY}@host/db")
    if request.fail:
        raise ApplicationError("it went wrong", type="WentWrong", non_retryable=True)


@tenant_activity
def talk_in_a_thread(request: Talk) -> None:
    log.info("activity.spoke", how="structlog in a thread")


@platform_activity("talks in a test")
async def talk_of_the_platform(request: Talk) -> None:
    log.info("activity.spoke", how="platform")


@tenant_job("test.talk", queue="default")
class TalkJob:
    """Says the same thing in every way there is."""

    @workflow.run
    async def run(self, job: TalkInput) -> None:
        log.info("workflow.spoke", how="structlog")
        plain.info("workflow.spoke", extra={"how": "standard library"})
        workflow.logger.info("workflow.spoke", extra={"how": "workflow.logger"})
        await workflow.execute_activity(
            talk, Talk(fail=job.fail), start_to_close_timeout=SOON, retry_policy=ONCE
        )
        await workflow.execute_activity(
            talk_in_a_thread, Talk(), start_to_close_timeout=SOON, retry_policy=ONCE
        )

    @workflow.signal
    def poke(self) -> None:
        log.info("workflow.poked")


@platform_job("test.platform_talk", reason="talks for the platform in a test", queue="default")
class PlatformTalk:
    """Talks for the platform."""

    @workflow.run
    async def run(self, job: PlatformInput) -> None:
        log.info("workflow.spoke", how="platform")
        await workflow.execute_activity(
            talk_of_the_platform, Talk(), start_to_close_timeout=SOON, retry_policy=ONCE
        )


class Slow(BaseModel):
    release: str = ""  # a file: its being there ends the activity


class SlowInput(TenantInput):
    release: str


@tenant_activity
async def slow(request: Slow) -> str:
    log.info("slow.running")
    async with heartbeating():
        while not Path(request.release).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
    return "done"


@tenant_job("test.slow", queue="default")
class SlowJob:
    """Lasts until a file is there."""

    @workflow.run
    async def run(self, job: SlowInput) -> str:
        return await workflow.execute_activity(
            slow,
            Slow(release=job.release),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=30),
        )


class BeatInput(TenantInput):
    how: str
    heartbeat_seconds: float | None = 1.0


@tenant_activity
async def beat_for_longer_than_the_timeout(how: Talk) -> str:
    # Twice the timeout: without heartbeats the server would have given the attempt up.
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=1)
    async with heartbeating():
        await asyncio.sleep(2 * timeout.total_seconds())
    return _tasks_left()


@tenant_activity
@heartbeating()
async def beat_by_decorator(how: Talk) -> str:
    return "beaten"


@tenant_activity
async def beat_until_cancelled(how: Talk) -> str:
    async with heartbeating():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.info("beat.cancelled")
            raise
    return "not cancelled"


@tenant_activity
async def beat_on_after_a_failure(how: Talk) -> list[Any]:
    if activity.info().attempt == 1:
        async with heartbeating() as heart:
            heart.beat("row", 41)
        raise ApplicationError("try again")
    if activity.info().attempt == 2:
        async with heartbeating():
            pass
        raise ApplicationError("try again")
    return list(activity.info().heartbeat_details)


BEATS = {
    function.__name__: function
    for function in (
        beat_for_longer_than_the_timeout,
        beat_by_decorator,
        beat_until_cancelled,
        beat_on_after_a_failure,
    )
}


def _tasks_left() -> str:
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return "tasks left" if any("_beat" in name for name in names) else "no tasks left"


@tenant_job("test.beat", queue="default")
class BeatJob:
    """Calls an activity that sends heartbeats, and returns what it returns."""

    @workflow.run
    async def run(self, job: BeatInput) -> Any:
        seconds = job.heartbeat_seconds
        running = workflow.start_activity(
            job.how,
            Talk(),
            start_to_close_timeout=SOON,
            heartbeat_timeout=None if seconds is None else timedelta(seconds=seconds),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        if job.how == beat_until_cancelled.__name__:
            await workflow.sleep(0.3)
            running.cancel()
            with contextlib.suppress(Exception):
                await running
            return str(running.cancelled() or running.exception().__class__.__name__)
        return await running


WORKFLOWS: list[type] = [TalkJob, PlatformTalk, SlowJob, BeatJob]
ACTIVITIES: list[Any] = [talk, talk_in_a_thread, talk_of_the_platform, slow, *BEATS.values()]
