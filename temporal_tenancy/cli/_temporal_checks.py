"""The doctor's checks of Temporal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import Temporal, control_plane
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.cli._workers import has_worker, no_worker
from temporal_tenancy.cli.answers import number
from temporal_tenancy.cli.program import current_application, current_program, quoted
from temporal_tenancy.cli.schedules import compare
from temporal_tenancy.control_plane.server_checks import keep_fairness
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.fairness import Fairness, ProbeFailed
from temporal_tenancy.sdk.search_attributes import SEARCH_ATTRIBUTES, missing_search_attributes

SERVER_VERSION: Final = (1, 31)  # the first whose fairness is relied on


async def temporal_checks() -> Sequence[Check]:
    """Server, namespace, fairness, search attributes, schedules and workers."""
    application = current_application()
    inside = ["namespace", "fairness", "search attributes", "schedules"]
    inside += map(_name_of_workers, application.queues)
    try:
        with application.reaching():
            client = await application.connect(None)
            reached = await _server(client)
    except (NotReachable, ConfigurationError) as error:
        said = getattr(error, "message", str(error))
        return [failed("temporal", said), *skipped(inside, "Temporal does not answer.")]
    try:
        with application.reaching():
            checks = [reached, await _namespace(client), await _fairness(client)]
            checks.append(await _search_attributes(client))
            checks.append(await _schedules(Temporal(client, application.ui_url)))
            checks += [await _workers(client, queue) for queue in application.queues]
            return checks
    except NotReachable as error:
        return [reached, failed("namespace", error.message), *skipped(inside[1:], "See above.")]


async def _server(client: Client) -> Check:
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    address = client.service_client.config.target_host
    version = tuple(int(part) for part in re.findall(r"\d+", info.server_version)[:2])
    said = f"{address} answers; its version is {info.server_version}."
    if version >= SERVER_VERSION:
        return ok("temporal", said)
    needed = ".".join(map(str, SERVER_VERSION))
    return failed("temporal", f"{said} Fairness between tenants needs {needed}: upgrade it.")


async def _namespace(client: Client) -> Check:
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace)
    )
    days = described.config.workflow_execution_retention_ttl.ToTimedelta().days
    said = f'"{client.namespace}" keeps closed runs for {number(days, "day")}.'
    return ok("namespace", said)


async def _fairness(client: Client) -> Check:
    try:
        found = await fairness.probe(client)
    except (ProbeFailed, RPCError) as error:
        return warning("fairness", f"whether it is on could not be tried: {error}")
    await _keep(client.namespace, found)
    return ok("fairness", found.message) if found.on else failed("fairness", found.message)


async def _keep(namespace: str, found: Fairness) -> None:
    try:
        async with control_plane() as database:
            await keep_fairness(database, namespace, found)
    except (NotReachable, DatabaseProblem):
        return  # another check reports it


async def _search_attributes(client: Client) -> Check:
    missing = await missing_search_attributes(client)
    if missing:
        return failed(
            "search attributes",
            f"{' and '.join(missing)} are not registered as Keyword. {quoted('schedules apply')} "
            "registers them.",
        )
    return ok("search attributes", f"{' and '.join(SEARCH_ATTRIBUTES)} are registered.")


async def _schedules(there: Temporal) -> Check:
    try:
        found = await compare(there)
    except ConfigurationError as error:
        return failed("schedules", str(error))
    declared = current_program().schedules
    off = [f"{d['schedule_id']} is {d['state']}" for d in found if d["state"] != "applied"]
    if off:
        hint = f'{quoted("schedules list")} shows how; "schedules apply" puts {declared} in force'
        return warning("schedules", f"{', '.join(off)}: {hint}.")
    paused = [d["job"] for d in found if d["paused"]]
    if paused:
        return warning("schedules", f"{', '.join(paused)}: paused.")
    return ok("schedules", f"{len(found)} are in force as {declared} declares them.")


def _name_of_workers(queue: str) -> str:
    return f"workers of {queue}"


async def _workers(client: Client, queue: str) -> Check:
    name = _name_of_workers(queue)
    if await has_worker(client, queue):
        return ok(name, f'the queue "{queue}" is served.')
    return failed(name, no_worker(queue))
