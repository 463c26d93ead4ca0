"""The doctor's checks of Temporal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.cli._deployment_checks import deployment_checks
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import Temporal, connected, control_plane
from temporal_tenancy.cli._spinners import waiting_for
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.cli._workers import has_worker, no_worker
from temporal_tenancy.cli.program import current_application, current_program, quoted
from temporal_tenancy.cli.schedules import compare
from temporal_tenancy.control_plane.server_checks import keep_fairness
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.fairness import Fairness, ProbeFailed
from temporal_tenancy.sdk.search_attributes import (
    MAY_NOT,
    SEARCH_ATTRIBUTES,
    missing_search_attributes,
)

SERVER_VERSION: Final = (1, 31)  # the first with reliable fairness

FAIRNESS_SHARE: Final = 3  # of the patience, for a try: it queues hundreds of tasks, and polls each

_PLATFORM_JOBS: Final = "platform jobs"


async def temporal_checks(patience: timedelta) -> tuple[Sequence[Check], bool]:
    """Checks server, namespace, fairness, search attributes and schedules.

    Returns also whether the server has answered all that it was asked.
    A try of the fairness probe has three times the `patience` (`FAIRNESS_SHARE`).
    """
    application = current_application()
    dependent = ["namespace", "fairness", "search attributes", "schedules", _PLATFORM_JOBS]
    try:
        with application.reaching():
            client = await connected(application)
            server = await _server(client)
    except (NotReachable, ConfigurationError) as error:
        message = getattr(error, "message", str(error))
        checks = [failed("temporal", message), *skipped(dependent, "Temporal does not answer.")]
        return checks, False
    try:
        with application.reaching():
            checks = [server, await _namespace(client), await _fairness(client, patience)]
            checks.append(await _search_attributes(client))
            checks += await _schedules(Temporal(client, application.ui_url))
            checks += await deployment_checks(client)
            return checks, True
    except NotReachable as error:
        checks = [server, failed("namespace", error.message)]
        return [*checks, *skipped(dependent[1:], "See above.")], False


async def _server(client: Client) -> Check:
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    address = client.service_client.config.target_host
    version = tuple(int(part) for part in re.findall(r"\d+", info.server_version)[:2])
    answer = f"{address} answers; its version is {info.server_version}."
    if version >= SERVER_VERSION:
        return ok("temporal", answer)
    needed = ".".join(map(str, SERVER_VERSION))
    return failed("temporal", f"{answer} Fairness between tenants needs {needed}: upgrade it.")


async def _namespace(client: Client) -> Check:
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace)
    )
    days = described.config.workflow_execution_retention_ttl.ToTimedelta().days
    message = f'"{client.namespace}" keeps closed runs for {number(days, "day")}.'
    return ok("namespace", message)


async def _fairness(client: Client, patience: timedelta) -> Check:
    try:
        with waiting_for("Temporal queues and hands out the tasks of two made-up tenants"):
            result = await fairness.probe(client, within=patience * FAIRNESS_SHARE)
    except ProbeFailed as error:
        return warning(
            "fairness",
            f"nobody knows whether it is on: {error} Try again when less runs, or give it longer "
            "with --patience.",
        )
    except RPCError as error:
        return warning(
            "fairness",
            f"nobody knows whether it is on: the server refused the probe: "
            f"{printable(error.message)}.",
        )
    await _keep(client.namespace, result)
    return ok("fairness", result.message) if result.on else failed("fairness", result.message)


async def _keep(namespace: str, result: Fairness) -> None:
    try:
        async with control_plane() as database:
            await keep_fairness(database, namespace, result)
    except (NotReachable, DatabaseProblem):
        return  # another check reports it


async def _search_attributes(client: Client) -> Check:
    try:
        missing = await missing_search_attributes(client)
    except RPCError as error:
        if error.status not in MAY_NOT:
            raise
        return warning(
            "search attributes",
            f"this account may not list them. {' and '.join(SEARCH_ATTRIBUTES)}, both Keyword, "
            "must be in the namespace.",
        )
    if missing:
        return failed(
            "search attributes",
            f"{' and '.join(missing)} are not registered as Keyword. {quoted('schedules apply')} "
            "registers them.",
        )
    return ok("search attributes", f"{' and '.join(SEARCH_ATTRIBUTES)} are registered.")


async def _schedules(connection: Temporal) -> list[Check]:
    try:
        documents = await compare(connection)
    except ConfigurationError as error:
        return [failed("schedules", str(error)), *skipped([_PLATFORM_JOBS], "See above.")]
    return [_declared(documents), await _platform_jobs(connection.client, documents)]


def _declared(documents: Sequence[dict[str, Any]]) -> Check:
    declared = current_program().schedules
    undeclared = [d["schedule_id"] for d in documents if d["state"] == "undeclared"]
    not_applied = [
        f"{d['schedule_id']} is {d['state']}"
        for d in documents
        if d["state"] not in ("applied", "undeclared")
    ]
    found = []
    if not_applied:
        apply = quoted("schedules apply")
        hint = f"{quoted('schedules list')} shows how; {apply} puts {declared} in force"
        found.append(f"{', '.join(not_applied)}: {hint}.")
    if undeclared:
        found.append(
            f"{', '.join(undeclared)}: undeclared, so nothing of {declared} names it. Delete it in "
            'the Web UI, or with "temporal schedule delete".'
        )
    if found:
        return warning("schedules", " ".join(found))
    paused = [d["job"] for d in documents if d["paused"]]
    if paused:
        return warning("schedules", f"{', '.join(paused)}: paused.")
    return ok("schedules", f"{len(documents)} are in force as {declared} declares them.")


async def _platform_jobs(client: Client, documents: Sequence[dict[str, Any]]) -> Check:
    """Checks the jobs that notice what was lost: nothing else would say that they do not run."""
    brought = current_application().platform_schedules
    if not brought:
        return skipped([_PLATFORM_JOBS], "no feature has one.")[0]
    by_job = {document["job"]: document for document in documents}
    missing = [s.job for s in brought if by_job[s.job]["state"] == "missing"]
    paused = [s.job for s in brought if by_job[s.job]["paused"]]
    queues = sorted({s.queue or registry[s.job].queue for s in brought})
    unserved = [queue for queue in queues if not await has_worker(client, queue)]
    problems = []
    if missing:
        apply = quoted("schedules apply")
        problems.append(f"not on the server: {', '.join(missing)}. {apply} puts them there.")
    if paused:
        each = " and ".join(quoted(f"schedules resume {job}") for job in paused)
        problems.append(f"paused: {', '.join(paused)}. {each} starts them again.")
    problems += map(no_worker, unserved)
    if problems:
        first, *others = problems
        told = " ".join([first, *(f"{each[0].upper()}{each[1:]}" for each in others)])
        return failed(
            _PLATFORM_JOBS,
            f"{told} Until then missed ticks, jobs that failed permanently and ended "
            "suspensions go unnoticed.",
        )
    return ok(_PLATFORM_JOBS, f"{', '.join(s.job for s in brought)} run.")
