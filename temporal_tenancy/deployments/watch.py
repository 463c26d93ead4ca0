"""The platform job that halts a release which is worse than its bounds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, Field
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkerDeploymentVersion

from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.inputs import PlatformInput
from temporal_tenancy.core.jobs import JobPriority, platform_job
from temporal_tenancy.dead_letters.alert_words import RELEASE_HALTED
from temporal_tenancy.dead_letters.alerts import Alert, AlertSink, tell
from temporal_tenancy.deployments.comparison import compare
from temporal_tenancy.deployments.polling import POLLED_WITHIN, unserved, words
from temporal_tenancy.deployments.recovery import steps_after_halt
from temporal_tenancy.deployments.releases import Release, Releases
from temporal_tenancy.deployments.versions import polled_by
from temporal_tenancy.postgres.database import current_database, platform_session
from temporal_tenancy.sdk.heartbeats import heartbeating

NAME: Final = "deployments.watch"
EVERY: Final = timedelta(seconds=10)  # between two comparisons

log: Final = logging.getLogger(__name__)

_LOOK: Final[dict[str, Any]] = {
    "start_to_close_timeout": timedelta(minutes=2),
    "heartbeat_timeout": timedelta(seconds=30),
    # While a server is away, nothing is compared, and the watch goes on afterwards.
    "schedule_to_close_timeout": timedelta(hours=12),
    "retry_policy": RetryPolicy(maximum_interval=timedelta(seconds=30)),
}


class WatchInput(PlatformInput):
    """Input of a watch: the version whose release it watches."""

    deployment: str
    build_id: str
    every: timedelta = Field(default=EVERY, gt=timedelta(0))


class Watched(BaseModel):
    """How a release stands."""

    state: ReleaseState | None  # None: there is no release
    reason: str | None = None  # why it was halted or ended


def watch_id(version: WorkerDeploymentVersion) -> str:
    """Returns the workflow id of a release's watch."""
    return str(WorkflowId(PLATFORM, NAME, version.to_canonical_string()))


@platform_job(
    NAME,
    reason="compares a release's runs with the others', over all tenants",
    queue="default",
    priority=JobPriority.HIGH,
)
class WatchRelease:
    """Compares a release with the other versions until it ends, and halts it if it is worse."""

    @workflow.run
    async def run(self, watched: WatchInput) -> Watched:
        """Returns how the release ended."""
        while True:
            found: Watched = await workflow.execute_activity_method(
                Watch.look_at_release, watched, **_LOOK
            )
            if found.state is not ReleaseState.RAMPING:
                return found
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(watched)
            await workflow.sleep(watched.every)


class Watch:
    """Halts releases that are worse than their bounds."""

    def __init__(
        self, sinks: Sequence[AlertSink], *, polled_within: timedelta = POLLED_WITHIN
    ) -> None:
        """Keeps what all looks share.

        Args:
            sinks: receive each alert, in addition to the log.
            polled_within: how long ago a worker that still runs has polled at most.
        """
        self._sinks = sinks
        self._polled_within = polled_within

    @platform_activity("compares a release's runs with the others', over all tenants")
    @heartbeating()
    async def look_at_release(self, watched: WatchInput) -> Watched:
        """Halts the release if it is worse than its bounds; returns how it stands."""
        releases = Releases(current_database())
        version = WorkerDeploymentVersion(watched.deployment, watched.build_id)
        release = await releases.find(version)
        if release is None or not release.is_ramping:
            return _standing(release)
        fault = await self._fault(activity.client(), release)
        if fault is None:
            return _standing(release)
        halted = await releases.end(
            version, ReleaseState.HALTED, reason=fault, by=NAME, only_ramping=True
        )
        if halted is None:  # an operator was faster
            return _standing(await releases.find(version))
        log.error(
            "release.halted",
            extra={
                "deployment": halted.deployment,
                "build_id": halted.build_id,
                "cohort": str(halted.cohort),
                "reason": halted.reason,
                "next": [step.command for step in steps_after_halt(halted)],
            },
        )
        async with platform_session("send an alert for a halted release") as session:
            await tell(session, _alert(halted), self._sinks)
        return _standing(halted)

    async def _fault(self, client: Client, release: Release) -> str | None:
        """Says in a sentence why the release is to be halted; None if it is well."""
        if release.odd is not None:
            return f"its row is impossible: {release.odd}"
        polled = await polled_by(client, release.version)
        served = [each for each in polled if release.serves(each.queue)]
        missing = await unserved(client, release.version, served, within=self._polled_within)
        if missing:
            return f"none of its workers polls {words(missing)} any more."
        for compared in await compare(client, release):
            fault = compared.fault(release.bounds)
            if fault is not None:
                return f"{fault}."
        return None


def _standing(release: Release | None) -> Watched:
    if release is None:
        return Watched(state=None)
    return Watched(state=release.state, reason=release.reason)


def _alert(release: Release) -> Alert:
    return Alert(
        name=f"release.{release.deployment}.{release.build_id}",
        words=RELEASE_HALTED,
        summary=(
            f"The release of version {release.build_id} to {release.cohort} was halted: "
            f"{release.reason}"
        ),
        details={
            "deployment": release.deployment,
            "build_id": release.build_id,
            "cohort": str(release.cohort),
        },
    )
