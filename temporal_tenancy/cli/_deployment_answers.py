"""What the command `deployments` shows of versions and releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.cli._server_access import Servers, as_platform
from temporal_tenancy.cli.answers import minute, sentence, table, whole
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments import versions
from temporal_tenancy.deployments.comparison import Compared, compare
from temporal_tenancy.deployments.releases import Cohort, Release
from temporal_tenancy.deployments.versions import VERSIONS_MAX, Deployment, VersionState
from temporal_tenancy.deployments.watch import watch_id
from temporal_tenancy.sdk.lookups import if_known

_DRAINED: Final = "drained"
_IN_USE: Final = ("current", "ramping")


async def deployment_document(
    connections: Servers,
    deployment: Deployment,
    releases: Mapping[WorkerDeploymentVersion, Release],
) -> dict[str, Any]:
    documents = []
    for version in deployment.versions:
        release = releases.get(WorkerDeploymentVersion(deployment.name, version.build_id))
        documents.append(await _version_document(connections, deployment, version, release))
    return {"name": deployment.name, "current": deployment.current, "versions": documents}


async def _version_document(
    connections: Servers, deployment: Deployment, state: VersionState, release: Release | None
) -> dict[str, Any]:
    client = connections.client
    version = WorkerDeploymentVersion(deployment.name, state.build_id)
    running = 0 if state.status == _DRAINED else await running_on(client, version)
    is_ramping = release is not None and release.is_ramping
    in_use = state.status in _IN_USE or is_ramping
    document: dict[str, Any] = {
        "build_id": state.build_id,
        "status": state.status,
        "created_at": state.created_at,
        "running": running,
        # The server knows it only of versions that were current once.
        "drained": state.status == _DRAINED or (not in_use and not running),
        "release": None,
    }
    if release is not None:
        compared: Sequence[Compared] = ()
        watched = None
        if release.is_ramping:
            with as_platform(connections.database):
                compared = await compare(client, release)
            watched = await _is_watched(client, version)
        document["release"] = {
            **release_document(release),
            "watched": watched,
            "compared": [_compared_document(each) for each in compared],
        }
    return document


def release_document(release: Release) -> dict[str, Any]:
    cohort = release.cohort
    return {
        "deployment": release.deployment,
        "build_id": release.build_id,
        "state": str(release.state),
        "tenants": None if cohort.tenants is None else sorted(cohort.tenants),
        "share": cohort.share,
        "max_failures": release.bounds.max_failures,
        "max_slowdown": release.bounds.max_slowdown,
        "min_runs": release.bounds.min_runs,
        "began_at": release.began_at,
        "ended_at": release.ended_at,
        "reason": release.reason,
        "changed_by": release.changed_by,
    }


def _compared_document(compared: Compared) -> dict[str, Any]:
    return {
        "what": compared.what,
        "runs": compared.new_runs,
        "ended": compared.new_ended,
        "failed": compared.new_failed,
        "others_ended": compared.old_ended,
        "others_failed": compared.old_failed,
        "seconds": None if compared.new_seconds is None else float(compared.new_seconds),
        "others_seconds": None if compared.old_seconds is None else float(compared.old_seconds),
    }


def shown(document: Mapping[str, Any]) -> Sequence[Any]:
    rows = [
        (
            whole(version["build_id"]),
            _DRAINED if version["drained"] else version["status"],
            minute(version["created_at"]),
            version["running"],
            _release_text(version["release"]),
        )
        for version in document["versions"]
    ]
    count = len(rows)
    return [
        f"{document['name']}: {number(count, 'version')} of at most {VERSIONS_MAX}",
        table(("version", "status", "since", "running", "release"), rows),
        *(
            sentence(version["build_id"], f"{version['release']['state']}:", reason)
            for version in document["versions"]
            if version["release"] and (reason := version["release"]["reason"])
        ),
    ]


def _release_text(release: Mapping[str, Any] | None) -> str | None:
    if release is None:
        return None
    tenants = release["tenants"]
    cohort = Cohort(None if tenants is None else frozenset(tenants), release["share"])
    state = str(release["state"]).replace("_", " ")
    if release["state"] != ReleaseState.RAMPING:
        return f"{state}, had {cohort}"
    return f"{state} to {cohort}" + ("" if release["watched"] else ", not watched: ramp it again")


async def _is_watched(client: Client, version: WorkerDeploymentVersion) -> bool:
    run = await if_known(client.get_workflow_handle(watch_id(version)).describe())
    return run is not None and run.status is WorkflowExecutionStatus.RUNNING


async def running_on(client: Client, version: WorkerDeploymentVersion) -> int:
    """Returns how many of tenants' runs are on a version."""
    return (await client.count_workflows(open_runs(version))).count


def open_runs(version: WorkerDeploymentVersion) -> str:
    query = versions.visibility_query(version)
    return f"{query} AND TenantId != '{PLATFORM}' AND ExecutionStatus = 'Running'"
