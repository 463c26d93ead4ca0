"""Shows worker versions, and releases them to some tenants or to all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import typer
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion, WorkflowIDConflictPolicy

from temporal_tenancy.cli._arguments import percentage
from temporal_tenancy.cli._deployment_answers import (
    deployment_document,
    open_runs,
    release_document,
    running_on,
    shown,
)
from temporal_tenancy.cli._server_access import Servers, directory_of, servers
from temporal_tenancy.cli._tenant_lists import tenant_ids
from temporal_tenancy.cli.answers import Answer, lines, minute, sentence
from temporal_tenancy.cli.dead_letters import operator
from temporal_tenancy.cli.program import current_application, quoted
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments import versions
from temporal_tenancy.deployments.polling import POLLED_WITHIN
from temporal_tenancy.deployments.recovery import steps_after_halt
from temporal_tenancy.deployments.releases import (
    Bounds,
    Cohort,
    Release,
    Releases,
    ReleaseUnknown,
)
from temporal_tenancy.deployments.versions import VERSIONS_MAX, Deployment
from temporal_tenancy.deployments.watch import EVERY, NAME, WatchInput, watch_id
from temporal_tenancy.sdk.lookups import if_known

_BAD: Final = (ReleaseState.HALTED, ReleaseState.ROLLED_BACK)


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
    min_tenants: int = 2,
    every: timedelta = EVERY,
    polled_within: timedelta = POLLED_WITHIN,
) -> Answer:
    """Releases a version to some tenants.

    `every` is the time between two comparisons, and a worker that still runs has polled within
    `polled_within`.

    Raises:
        typer.BadParameter: a share is no percentage, or there are both tenants and a share.
        TenancyError: the version, a tenant or the cohort is not possible; nothing has changed.
    """
    if (tenants is None) == (share is None):
        ending = "." if tenants is None else ", not both."
        raise typer.BadParameter(
            f"name the tenants with --tenants, or a part of all with --share{ending}"
        )
    cohort = (
        Cohort(share=percentage(share, option="--share"))
        if share is not None
        else Cohort(frozenset(tenant_ids(tenants or "")))
    )
    bounds = Bounds(
        percentage(max_failures, option="--max-failures"), max_slowdown, min_runs, min_tenants
    )
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
        served = await versions.require_queues(
            connections.client, found, build, within=polled_within
        )
        release = await Releases(connections.database).ramp(
            version,
            cohort,
            bounds,
            directory=directory_of(connections.database),
            by=operator(),
            queues=served,
        )
        url = await _watch(connections, version, every)
    replaced = release.replaced
    document = {
        **release_document(release),
        "replaced": None if replaced is None else release_document(replaced),
        "watch_url": url,
    }
    text = f"New runs of {cohort} start on {build} within 5 s; all others stay on {found.current}."
    return Answer(
        document,
        lines(
            sentence(text),
            None if replaced is None else sentence(_replaces(replaced)),
            _lowered(release, min_tenants),
            f"{quoted('deployments list')} shows how it does; "
            f"{quoted(f'deployments promote {build}')} gives it to everybody, "
            f"{quoted(f'deployments rollback {build}')} takes it back.",
        ),
    )


async def promote(
    build: str, *, deployment: str | None, polled_within: timedelta = POLLED_WITHIN
) -> Answer:
    """Makes a version current, and ends the releases of versions that are older than it.

    A worker that still runs has polled within `polled_within`.

    Raises:
        TenancyError: the version does not exist, or the server refuses; nothing has changed.
    """
    async with servers() as connections:
        found = await versions.deployment_of(connections.client, deployment)
        version = found.version(build)
        if found.current != build:
            await versions.require_queues(connections.client, found, build, within=polled_within)
            await versions.make_current(connections.client, version, by=operator())
        releases = Releases(connections.database)
        ended = await releases.end(version, ReleaseState.PROMOTED, reason=None, by=operator())
        others = await _ramping(releases, found.name)
        overtaken = [each for each in others if each.build_id in found.older_than(build)]
        for each in overtaken:
            await releases.end(
                each.version,
                ReleaseState.ROLLED_BACK,
                reason=f"version {build}, which is newer, was promoted.",
                by=operator(),
            )
        ramping = [each for each in others if each not in overtaken]
    document = {
        "deployment": found.name,
        "build_id": build,
        "current": build,
        "before": found.current,
        "release": None if ended is None else release_document(ended),
        "ended": [each.build_id for each in overtaken],
        "ramping": [each.build_id for each in ramping],
    }
    before = found.current if found.current not in (None, build) else None
    drains = None if before is None else f"Runs that began on {before} end there: keep its workers."
    return Answer(
        document,
        lines(
            *_starts(build, ramping),
            *(f"The release of {each.build_id} has ended." for each in overtaken),
            drains,
        ),
    )


async def rollback(
    build: str,
    *,
    terminate: bool,
    reason: str | None,
    deployment: str | None,
    polled_within: timedelta = POLLED_WITHIN,
) -> Answer:
    """Ends the release of a version, or goes back from the current version to the one before.

    That is the last one that was not rolled back or halted itself, and its workers must still poll:
    they have within `polled_within`.

    Raises:
        TenancyError: there is no such version or release, or no version to go back to.
    """
    async with servers() as connections:
        client, by = connections.client, operator()
        found = await versions.deployment_of(client, deployment)
        version = found.version(build)
        current = found.current
        releases = Releases(connections.database)
        if current == build:
            current = await _before(releases, found, build)
            await versions.require_queues(client, found, current, within=polled_within)
            await versions.make_current(client, found.version(current), by=by)
            ended: Release | None = await releases.take_back(version, reason=reason, by=by)
        else:
            ended = await releases.end(version, ReleaseState.ROLLED_BACK, reason=reason, by=by)
        known = ended or await releases.find(version)
        ramping = await _ramping(releases, found.name)
        if known is None:
            raise ReleaseUnknown(
                f"{build} is neither the current version of {found.name} nor released to anybody."
            )
        terminated = await _terminate(client, version, reason) if terminate else 0
        running = 0 if terminate else await running_on(client, version)
    document = {
        "deployment": found.name,
        "build_id": build,
        "current": current,
        "release": release_document(known),
        "ramping": [each.build_id for each in ramping],
        "running": running,
        "terminated": terminated,
    }
    return Answer(
        document,
        lines(
            *_starts(current, ramping),
            f"{number(terminated, 'run')} terminated." if terminate else None,
            f"{number(running, 'run')} of tenants still on {build}: keep its workers until they "
            f"have ended, or repeat this with --terminate."
            if running
            else None,
            _swept(terminated),
            "; ".join(
                f"{quoted(step.command)} {step.purpose}"
                for step in steps_after_halt(known, running=0)
            )
            + ".",
        ),
    )


def _swept(terminated: int) -> str | None:
    """Says when runs that were terminated can be replayed; None if none was."""
    if not terminated:
        return None
    return "Those that no fan-out started are dead letters within a minute: replay them then."


def _replaces(replaced: Release) -> str:
    """Says what a release takes the place of."""
    if replaced.is_ramping:
        return (
            f"This replaces its release to {replaced.cohort}; it is compared since "
            f"{minute(replaced.began_at)}, as before."
        )
    state = str(replaced.state).replace("_", " ")
    why = f": {replaced.reason}" if replaced.reason else "."
    return f"It begins anew: its release to {replaced.cohort} was {state}{why}"


def _lowered(release: Release, min_tenants: int) -> str | None:
    """Says that a release has fewer tenants than must fail before it is halted, if so."""
    least = release.bounds.min_tenants
    if least == min_tenants:
        return None
    return (
        f"It is halted for failures once runs of {number(least, 'tenant')} fail, not of "
        f"{min_tenants:,}: it has no more that may run."
    )


async def _before(releases: Releases, found: Deployment, build: str) -> str:
    """Returns the version to go back to from `build`; raises `VersionRefused`."""
    bad = {each.build_id: each for each in await releases.all() if each.state in _BAD}
    its = {key for key, each in bad.items() if each.deployment == found.name}
    before = found.before_current(its)
    if before is not None:
        return before
    passed = found.before_current()
    why = (
        f"no version of {found.name} was current before {build}."
        if passed is None
        else f"no version of {found.name} is left to go back to from {build}: {passed} was "
        f"{str(bad[passed].state).replace('_', ' ')} itself."
    )
    raise versions.VersionRefused(
        f"{why} {quoted('deployments promote')} makes another one current."
    )


async def _ramping(releases: Releases, deployment: str) -> Sequence[Release]:
    return [each for each in await releases.ramping() if each.deployment == deployment]


def _starts(current: str | None, ramping: Sequence[Release]) -> Sequence[Any]:
    """Says on which versions new runs start."""
    if not ramping:
        return [f"New runs of all tenants start on {current}."]
    return [
        *(
            sentence(f"New runs of {each.cohort} start on {each.build_id}, which still ramps.")
            for each in ramping
        ),
        f"Those of all other tenants start on {current}.",
    ]


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
