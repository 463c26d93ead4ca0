"""The doctor's check of worker versions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli._verdicts import Check, ok, warning
from temporal_tenancy.cli.program import quoted
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments.polling import POLLED_WITHIN, unserved, words
from temporal_tenancy.deployments.versions import (
    VERSIONS_MAX,
    Deployment,
    deployment_of,
    names_of_deployments,
    polled_by,
)

FULL: Final = 0.7  # of the server's limit of versions
NAME: Final = "deployments"

_NOT_SERVED: Final = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)


async def deployment_checks(
    client: Client, *, polled_within: timedelta = POLLED_WITHIN
) -> Sequence[Check]:
    """Checks the worker deployments; none where no worker is versioned.

    A worker that still runs has polled within `polled_within`.

    Raises:
        RPCError: the server does not answer.
    """
    try:
        names = await names_of_deployments(client)
    except RPCError as error:
        if error.status in _NOT_SERVED:
            return []
        raise
    found = [await deployment_of(client, name) for name in names]
    if not found:
        return []
    problems = [problem for each in found for problem in problems_of(each)]
    for each in found:
        problems += await _unserved(client, each, polled_within)
    if problems:
        return [warning(NAME, " ".join(problems))]
    current = ", ".join(f"{each.name} {each.current}" for each in found)
    return [ok(NAME, f"current: {current}.")]


async def _unserved(client: Client, deployment: Deployment, within: timedelta) -> Sequence[str]:
    if deployment.current is None:
        return []
    version = WorkerDeploymentVersion(deployment.name, deployment.current)
    missing = await unserved(client, version, await polled_by(client, version), within=within)
    if not missing:
        return []
    return [
        f"no worker of version {deployment.current} of {deployment.name}, which is current, polls "
        f"{words(missing)}: new runs wait. Start its workers."
    ]


def problems_of(deployment: Deployment) -> Sequence[str]:
    """Returns what is worth a look about a deployment, a sentence each."""
    count = len(deployment.versions)
    problems = []
    if count >= FULL * VERSIONS_MAX:
        drained = sum(version.status == "drained" for version in deployment.versions)
        problems.append(
            f"{deployment.name} has {number(count, 'version')}, {drained:,} of them drained, and "
            f"the server allows {VERSIONS_MAX}: stop the workers of versions that "
            f"{quoted('deployments list')} shows as drained."
        )
    if deployment.current is None:
        problems.append(
            f"{deployment.name} has no current version, so its workers get no new runs: "
            f"{quoted('deployments promote BUILD')} makes one current."
        )
    return problems
