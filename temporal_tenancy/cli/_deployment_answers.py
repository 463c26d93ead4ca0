"""What the command `deployments` shows of versions and releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.cli._server_access import Servers, as_platform
from temporal_tenancy.cli.answers import minute, sentence, table, whole
from temporal_tenancy.cli.program import current_program, quoted
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments import versions
from temporal_tenancy.deployments.comparison import Compared, compare
from temporal_tenancy.deployments.polling import workers_of
from temporal_tenancy.deployments.recovery import Step, steps_after_halt
from temporal_tenancy.deployments.releases import Cohort, Release
from temporal_tenancy.deployments.versions import VERSIONS_MAX, Deployment, VersionState
from temporal_tenancy.deployments.watch import watch_id
from temporal_tenancy.sdk.lookups import if_known

_DRAINED: Final = "drained"


async def _watch_state(client: Client, version: WorkerDeploymentVersion) -> tuple[bool, str | None]:
    """Returns whether a release is watched, and why its watch's last look failed."""
    run = await if_known(client.get_workflow_handle(watch_id(version)).describe())
    if run is None or run.status is not WorkflowExecutionStatus.RUNNING:
        return False, None
    failures = [
        each.last_failure.message or "it timed out"
        for each in run.raw_description.pending_activities
        if each.attempt > 1
    ]
    return True, failures[0] if failures else None


async def running_on(client: Client, version: WorkerDeploymentVersion) -> int:
    """Returns how many of tenants' runs are on a version."""
    return (await client.count_workflows(open_runs(version))).count


def open_runs(version: WorkerDeploymentVersion) -> str:
    query = versions.visibility_query(version)
    return f"{query} AND TenantId != '{PLATFORM}' AND ExecutionStatus = 'Running'"


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
    has_ended = release is not None and not release.is_ramping and state.status != "current"
    polled = await versions.polled_by(client, version)
    workers = await workers_of(client, version, polled)
    document: dict[str, Any] = {
        "build_id": state.build_id,
        "status": state.status,
        "created_at": state.created_at,
        "running": running,
        # The server knows it only of versions that were current once.
        "drained": state.status == _DRAINED or (has_ended and not running),
        "workers": len(frozenset().union(*workers.values())),
        "unserved": [f"{each.queue} {each.kind}" for each, found in workers.items() if not found],
        "release": None,
    }
    if release is not None:
        program = current_program().name
        compared: Sequence[Compared] = ()
        watched = failure = None
        if release.is_ramping:
            with as_platform(connections.database):
                compared = await compare(client, release)
            watched, failure = await _watch_state(client, version)
        document["release"] = {
            **release_document(release),
            "watched": watched,
            "watch_failure": failure,
            "next": [
                {"command": f"{program} {step.command}", "purpose": step.purpose}
                for step in _steps(release, running)
            ],
            "compared": [_compared_document(each) for each in compared],
        }
    return document


def _steps(release: Release, running: int) -> Sequence[Step]:
    is_halted = release.state is ReleaseState.HALTED
    return steps_after_halt(release, running=running) if is_halted else ()


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
        "min_tenants": release.bounds.min_tenants,
        "queues": None if release.queues is None else sorted(release.queues),
        "odd": release.odd,
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
        "tenants": compared.new_tenants,
        "tenants_failed": compared.new_bad,
        "others_tenants": compared.old_tenants,
        "others_tenants_failed": compared.old_bad,
        "seconds": compared.new_seconds,
        "others_seconds": compared.old_seconds,
        "earlier_seconds": compared.own_seconds,
    }


def shown(document: Mapping[str, Any]) -> Sequence[Any]:
    rows = [
        (
            whole(version["build_id"]),
            _DRAINED if version["drained"] else version["status"],
            minute(version["created_at"]),
            version["workers"],
            version["running"],
            _release_text(version["release"]),
        )
        for version in document["versions"]
    ]
    count = len(rows)
    return [
        f"{document['name']}: {number(count, 'version')} of at most {VERSIONS_MAX}",
        table(("version", "status", "since", "workers", "running", "release"), rows),
        *(
            sentence(version["build_id"], f"{version['release']['state']}:", reason)
            for version in document["versions"]
            if version["release"] and (reason := version["release"]["reason"])
        ),
        *(part for version in document["versions"] for part in _what_next(document, version)),
    ]


def _what_next(document: Mapping[str, Any], version: Mapping[str, Any]) -> Sequence[Any]:
    """Says what to do about a version whose release was halted."""
    if not version["release"] or not version["release"]["next"]:
        return []
    build = version["build_id"]
    again = quoted(f"deployments ramp {build} --deployment {document['name']}")
    return [
        sentence(f"New runs start on {document['current']} again. What to do about {build}:"),
        *(
            sentence(whole(each["command"]), each["purpose"] + ".")
            for each in version["release"]["next"]
        ),
        sentence(
            f"Then stop its workers. A mended build has a new id; to try this one again: {again}."
        ),
    ]


def _release_text(release: Mapping[str, Any] | None) -> str | None:
    if release is None:
        return None
    if release["odd"] is not None:
        return f"its row is impossible, so it is for nobody: {printable(release['odd'])}"
    tenants = release["tenants"]
    cohort = Cohort(None if tenants is None else frozenset(tenants), release["share"])
    state = str(release["state"]).replace("_", " ")
    if release["state"] != ReleaseState.RAMPING:
        return f"{state}, had {cohort}"
    if not release["watched"]:
        return f"{state} to {cohort}, not watched: ramp it again"
    failing = release["watch_failure"]
    return f"{state} to {cohort}" + (f", its watch fails: {printable(failing)}" if failing else "")
