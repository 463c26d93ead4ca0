"""Shows worker versions, and releases them to some tenants or to all."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import typer
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion, WorkflowIDConflictPolicy

from temporal_tenancy.cli._deployment_answers import (
    deployment_document,
    open_runs,
    release_document,
    running_on,
    shown,
)
from temporal_tenancy.cli._server_access import Servers, directory_of, servers
from temporal_tenancy.cli._tenant_lists import tenant_ids
from temporal_tenancy.cli.answers import Answer, lines, sentence
from temporal_tenancy.cli.dead_letters import operator
from temporal_tenancy.cli.program import current_application, quoted
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments import versions
from temporal_tenancy.deployments.releases import (
    Bounds,
    Cohort,
    Releases,
    ReleaseUnknown,
)
from temporal_tenancy.deployments.versions import VERSIONS_MAX
from temporal_tenancy.deployments.watch import EVERY, NAME, WatchInput, watch_id
from temporal_tenancy.sdk.lookups import if_known


async def show_all(name: str | None) -> Answer:
    """Shows each deployment's versions, how many runs are on each, and its release.

    Raises `DeploymentUnknown`.
    """
    async with servers() as connections:
        client = connections.client
        names = [name] if name is not None else await versions.names_of_deployments(client)
        deployments = [await versions.deployment_of(client, each) for each in names]
        releases = {
            release.version: release for release in await Releases(connections.database).all()
        }
        documents = [await deployment_document(connections, each, releases) for each in deployments]
    document = {"deployments": documents, "versions_max": VERSIONS_MAX}
    if not documents:
        return Answer(document, "No worker is versioned: all runs go to whichever worker polls.")
    return Answer(document, lines(*(part for each in documents for part in shown(each))))


async def ramp(
    build: str,
    *,
    tenants: str | None,
    share: str | None,
    max_failures: str,
    max_slowdown: float,
    min_runs: int,
    deployment: str | None,
    every: timedelta = EVERY,
) -> Answer:
    """Releases a version to some tenants; `every` is the time between two comparisons.

    Raises:
        typer.BadParameter: a share is no percentage, or there are both tenants and a share.
        TenancyError: the version, a tenant or the cohort is not possible; nothing has changed.
    """
    if (tenants is None) == (share is None):
        raise typer.BadParameter("name the tenants with --tenants, or a part of all with --share.")
    cohort = (
        Cohort(share=_share(share, "--share"))
        if share is not None
        else Cohort(frozenset(tenant_ids(tenants or "")))
    )
    bounds = Bounds(_share(max_failures, "--max-failures"), max_slowdown, min_runs)
    async with servers() as connections:
        found = await versions.deployment_of(connections.client, deployment)
        version = found.version(build)
        if found.current is None:
            raise versions.VersionRefused(
                f"{found.name} has no current version, so the other tenants would have none to "
                f"stay on. {quoted('deployments promote BUILD')} makes the present one current."
            )
        if found.current == build:
            raise versions.VersionRefused(
                f"{build} is the current version of {found.name}, which all tenants have."
            )
        await versions.require_queues(connections.client, found, build)
        release = await Releases(connections.database).ramp(
            version, cohort, bounds, directory=directory_of(connections.database), by=operator()
        )
        url = await _watch(connections, version, every)
    document = {**release_document(release), "watch_url": url}
    text = f"New runs of {cohort} start on {build} within 5 s; all others stay on {found.current}."
    return Answer(
        document,
        lines(
            sentence(text),
            f"{quoted('deployments list')} shows how it does; "
            f"{quoted(f'deployments promote {build}')} gives it to everybody, "
            f"{quoted(f'deployments rollback {build}')} takes it back.",
        ),
    )


async def promote(build: str, *, deployment: str | None) -> Answer:
    """Makes a version current.

    Raises:
        TenancyError: the version does not exist, or the server refuses; nothing has changed.
    """
    async with servers() as connections:
        found = await versions.deployment_of(connections.client, deployment)
        version = found.version(build)
        await versions.require_queues(connections.client, found, build)
        if found.current != build:
            await versions.make_current(connections.client, version, by=operator())
        ended = await Releases(connections.database).end(
            version, ReleaseState.PROMOTED, reason=None, by=operator()
        )
    document = {
        "deployment": found.name,
        "build_id": build,
        "current": build,
        "before": found.current,
        "release": None if ended is None else release_document(ended),
    }
    before = found.current if found.current not in (None, build) else None
    drains = None if before is None else f"Runs that began on {before} end there: keep its workers."
    return Answer(document, lines(f"New runs of all tenants start on {build}.", drains))


async def rollback(
    build: str, *, terminate: bool, reason: str | None, deployment: str | None
) -> Answer:
    """Ends the release of a version, or goes back from the current version to the one before.

    Raises:
        TenancyError: there is no such version or release, or no version to go back to.
    """
    async with servers() as connections:
        client, by = connections.client, operator()
        found = await versions.deployment_of(client, deployment)
        version = found.version(build)
        current = found.current
        if current == build:
            current = found.before_current()
            if current is None:
                raise versions.VersionRefused(
                    f"no version of {found.name} was current before {build}. "
                    f"{quoted('deployments promote')} makes another one current."
                )
            await versions.make_current(client, found.version(current), by=by)
        ended = await Releases(connections.database).end(
            version, ReleaseState.ROLLED_BACK, reason=reason, by=by
        )
        known = await Releases(connections.database).find(version)
        if ended is None and current == found.current and known is None:
            raise ReleaseUnknown(
                f"{build} is neither the current version of {found.name} nor released to anybody."
            )
        terminated = await _terminate(client, version, reason) if terminate else 0
        running = 0 if terminate else await running_on(client, version)
    document = {
        "deployment": found.name,
        "build_id": build,
        "current": current,
        "release": None if known is None else release_document(ended or known),
        "running": running,
        "terminated": terminated,
    }
    return Answer(
        document,
        lines(
            f"New runs of all tenants start on {current}.",
            f"{number(terminated, 'run')} terminated." if terminate else None,
            f"{number(running, 'run')} of tenants still on {build}: keep its workers until they "
            f"have ended, or repeat this with --terminate."
            if running
            else None,
            f"{quoted('ticks catch-up --wait')} runs the tenants that a fan-out missed; "
            f"{quoted('dead-letters replay')} starts the other jobs that failed.",
        ),
    )


async def _watch(
    connections: Servers, version: WorkerDeploymentVersion, every: timedelta
) -> str | None:
    """Starts the job that compares the release with the others, unless it runs; returns its URL."""
    watched = WatchInput(deployment=version.deployment_name, build_id=version.build_id, every=every)
    handle = await connections.client.start_workflow(
        NAME,
        watched,
        id=watch_id(version),
        task_queue=_platform_queue(),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    return connections.link(handle.id, handle.first_execution_run_id)


def _platform_queue() -> str:
    """Returns the queue on which the application's workers run the library's own jobs."""
    for scheduled in current_application().platform_schedules:
        if scheduled.queue is not None:
            return scheduled.queue
    return registry.get_or_raise(NAME).queue


async def _terminate(client: Client, version: WorkerDeploymentVersion, reason: str | None) -> int:
    why = reason or f"version {version.build_id} was rolled back"
    terminated = 0
    async for run in client.list_workflows(open_runs(version)):
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        terminated += await if_known(_terminated(handle.terminate(reason=why))) or 0
    return terminated


async def _terminated(terminating: Any) -> int:  # a coroutine of the SDK
    await terminating
    return 1


def _share(text: str, option: str) -> float:
    """Parses a percentage such as `1%` or `0.5`; returns a share from 0 to 1."""
    digits = text.strip().removesuffix("%").strip()
    try:
        percent = float(digits)
    except ValueError:
        percent = math.nan
    if not math.isfinite(percent):
        raise typer.BadParameter('it is a percentage, such as "1%".', param_hint=option)
    if not 0 < percent <= 100:
        raise typer.BadParameter(
            f"it is above 0 % and at most 100 %, and this is {percent:g} %.", param_hint=option
        )
    return percent / 100
