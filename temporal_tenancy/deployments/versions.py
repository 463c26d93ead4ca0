"""The server's worker deployments: their versions, and which one is current."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as Version
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    ListWorkerDeploymentsRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.nearest import did_you_mean
from temporal_tenancy.deployments.polling import KINDS, POLLED_WITHIN, Polled, unserved, words
from temporal_tenancy.sdk.throttling import unthrottled

VERSIONS_MAX: Final = 100
"""The server's default limit of versions in a deployment, `matching.maxVersionsInDeployment`.

At the limit the server deletes drained versions that no worker polls for. Without one, workers of a
further version get no work.
"""
NAMED: Final = 10  # versions that a sentence names

_PREFIX: Final = "WORKER_DEPLOYMENT_VERSION_STATUS_"
_KINDS: Final = {number: kind for kind, number in KINDS.items()}
_LISTED_WITHIN: Final = 1.0  # seconds, in which the server lists a deployment after its first poll


class DeploymentUnknown(TenancyError):
    """The namespace has no worker deployment of that name."""


class VersionUnknown(TenancyError):
    """The worker deployment has no such version."""


class VersionIncomplete(TenancyError):
    """No worker of the version polls one of the task queues now."""


class VersionRefused(TenancyError):
    """The server does not make the version current."""


@dataclass(frozen=True)
class VersionState:
    """A version of a deployment's workers."""

    build_id: str
    status: str  # "current", "ramping", "draining", "drained", "inactive" or "created"
    created_at: datetime | None  # aware
    current_until: datetime | None  # aware; when another version took its place


@dataclass(frozen=True)
class Deployment:
    """A worker deployment: the versions of one application's workers."""

    name: str
    current: str | None  # the build id; None: new runs go to unversioned workers
    versions: Sequence[VersionState]  # the latest first

    def version(self, build_id: str) -> WorkerDeploymentVersion:
        """Returns a version by its build id.

        Raises:
            VersionUnknown: there is none.
        """
        known = [version.build_id for version in self.versions]
        if build_id not in known:
            hint = did_you_mean(build_id, known)
            more = f" and {len(known) - NAMED:,} more" if len(known) > NAMED else ""
            listed = f" Its versions are {', '.join(known[:NAMED])}{more}." if known else ""
            raise VersionUnknown(
                f"the deployment {self.name} has no version {build_id!r}: no worker of that "
                f"version has polled.{hint or listed}"
            )
        return WorkerDeploymentVersion(self.name, build_id)

    def older_than(self, build_id: str) -> Collection[str]:
        """Returns the build ids of the versions that came before one."""
        known = [version.build_id for version in self.versions]  # the latest first
        return known[known.index(build_id) + 1 :] if build_id in known else []

    def before_current(self, bad: Collection[str] = ()) -> str | None:
        """Returns the build id of the version that was current before; None if none was.

        `bad` are build ids to pass over, because they were taken back themselves.
        """
        earlier = [
            (version.current_until, version.build_id)
            for version in self.versions
            if version.current_until is not None and version.build_id not in (self.current, *bad)
        ]
        return max(earlier)[1] if earlier else None


async def names_of_deployments(client: Client) -> Sequence[str]:
    """Returns the names of the namespace's worker deployments, in order."""
    names: list[str] = []
    token = b""
    while True:
        request = ListWorkerDeploymentsRequest(
            namespace=client.namespace, page_size=100, next_page_token=token
        )
        page = await unthrottled(partial(client.workflow_service.list_worker_deployments, request))
        names += [deployment.name for deployment in page.worker_deployments]
        token = page.next_page_token
        if not token:
            return sorted(names)


async def deployment_of(client: Client, name: str | None = None) -> Deployment:
    """Returns a worker deployment, or the only one that the namespace has.

    Raises:
        DeploymentUnknown: there is none, or there are several and `name` is None.
        RPCError: the server does not answer.
    """
    if name is None:
        names = await names_of_deployments(client)
        if not names:  # the list lags behind
            await asyncio.sleep(_LISTED_WITHIN)
            names = await names_of_deployments(client)
        if not names:
            raise DeploymentUnknown(
                f'no worker in the namespace "{client.namespace}" is versioned. Start workers with '
                "a deployment's name and a build id."
            )
        if len(names) > 1:
            raise DeploymentUnknown(
                f"there are {len(names)} worker deployments: {', '.join(names[:NAMED])}. Name one "
                'with "--deployment".'
            )
        name = names[0]
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    try:
        described = await unthrottled(
            partial(client.workflow_service.describe_worker_deployment, request)
        )
    except RPCError as error:
        if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise
        hint = did_you_mean(name, await names_of_deployments(client))
        raise DeploymentUnknown(f"there is no worker deployment {name!r}.{hint or ''}") from None
    return _deployment(described.worker_deployment_info)


async def require_queues(
    client: Client, deployment: Deployment, build_id: str, *, within: timedelta = POLLED_WITHIN
) -> frozenset[str]:
    """Checks that a version's workers poll now what the current version's have polled.

    Args:
        client: of the namespace.
        deployment: of the version.
        build_id: of the version.
        within: how long ago a worker that still runs has polled at most.

    Returns:
        The task queues that the version serves.

    Raises:
        VersionIncomplete: they do not.
        RPCError: the server does not answer.
    """
    version = WorkerDeploymentVersion(deployment.name, build_id)
    own = await polled_by(client, version)
    needed = own
    whose = "which it did before"
    if deployment.current not in (None, build_id):
        current = WorkerDeploymentVersion(deployment.name, deployment.current or "")
        needed = await polled_by(client, current)
        whose = f"which version {deployment.current} serves"
    missing = await unserved(client, version, needed, within=within)
    if missing:
        raise VersionIncomplete(
            f"no worker of version {build_id} polls {words(missing)}, {whose}. Start one for it "
            "first."
        )
    return frozenset(polled.queue for polled in own if polled.kind == "workflow")


async def polled_by(client: Client, version: WorkerDeploymentVersion) -> frozenset[Polled]:
    """Returns what workers of a version poll, or have polled."""
    request = DescribeWorkerDeploymentVersionRequest(
        namespace=client.namespace,
        deployment_version=Version(
            deployment_name=version.deployment_name, build_id=version.build_id
        ),
    )
    described = await unthrottled(
        partial(client.workflow_service.describe_worker_deployment_version, request)
    )
    queues = described.version_task_queues
    return frozenset(
        Polled(queue.name, _KINDS[queue.type]) for queue in queues if queue.type in _KINDS
    )


async def queues_of(client: Client, version: WorkerDeploymentVersion) -> frozenset[str]:
    """Returns the task queues that workers of a version have polled for workflows."""
    polled = await polled_by(client, version)
    return frozenset(each.queue for each in polled if each.kind == "workflow")


async def make_current(client: Client, version: WorkerDeploymentVersion, *, by: str) -> None:
    """Starts new runs of everybody on a version; runs of other versions end where they are.

    Raises:
        VersionRefused: the server refuses, for example because no worker of the version polls.
        RPCError: the server does not answer.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=version.deployment_name,
        build_id=version.build_id,
        identity=by,
    )
    try:
        await unthrottled(
            partial(client.workflow_service.set_worker_deployment_current_version, request)
        )
    except RPCError as error:
        if error.status not in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.NOT_FOUND):
            raise
        raise VersionRefused(
            f"the server does not make {version.build_id} current: {error.message.rstrip('.')}."
        ) from None


def visibility_query(version: WorkerDeploymentVersion) -> str:
    """Returns the condition of a visibility query for the runs that are on a version."""
    value = f"{version.deployment_name}:{version.build_id}"
    return f"TemporalWorkerDeploymentVersion = {quoted_value(value)}"


def quoted_value(value: str) -> str:
    """Returns a text as a value of a visibility query."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _deployment(info: WorkerDeploymentInfo) -> Deployment:
    summaries = sorted(
        info.version_summaries, key=lambda each: each.create_time.ToNanoseconds(), reverse=True
    )
    current = info.routing_config.current_deployment_version.build_id
    return Deployment(
        name=info.name,
        current=current or None,
        versions=[
            VersionState(
                build_id=each.deployment_version.build_id,
                status=_status(each.status),
                created_at=_moment(each.create_time),
                current_until=_until(each),
            )
            for each in summaries
        ],
    )


def _status(status: WorkerDeploymentVersionStatus.ValueType) -> str:
    return WorkerDeploymentVersionStatus.Name(status).removeprefix(_PREFIX).lower()


def _until(summary: WorkerDeploymentInfo.WorkerDeploymentVersionSummary) -> datetime | None:
    """Returns when a version stopped to be current, if it ever was."""
    if not summary.HasField("last_current_time"):
        return None
    return _moment(summary.last_deactivation_time) or _moment(summary.last_current_time)


def _moment(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(tzinfo=UTC) if stamp.ToNanoseconds() else None
