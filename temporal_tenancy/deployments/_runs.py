"""How the tenants' runs on a worker version ended, as the server has them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.deployments.versions import quoted_value, visibility_query
from temporal_tenancy.sdk.agreement import TENANT_ID

TENANTS: Final = 200  # that are looked at, those whose runs ended last
PAGE: Final = 200  # runs in a request
PAGES: Final = 20  # requests for one answer
JOBS: Final = 50

# A run that was terminated says nothing about its code: an operator did it.
_FAILED: Final = "ExecutionStatus IN ('Failed', 'TimedOut')"
_ENDED: Final = "ExecutionStatus IN ('Completed', 'Failed', 'TimedOut')"


@dataclass(frozen=True)
class Ended:
    """Runs that have ended, and the tenants that they were of."""

    runs: int = 0
    failed: int = 0
    tenants: frozenset[str] = frozenset()  # at most `TENANTS`
    bad: frozenset[str] = frozenset()  # of these tenants, those with a failed run
    jobs: frozenset[str] = frozenset()


async def ended_runs(
    client: Client,
    version: WorkerDeploymentVersion,
    since: datetime,
    jobs: Collection[str] = (),
) -> Ended:
    """Returns the ended runs of a version that began at `since` or later.

    Args:
        client: of the namespace.
        version: that they were on.
        since: aware.
        jobs: that they were of; none: all jobs of tenants.

    Raises:
        RPCError: the server does not answer.
    """
    where = (
        f"{visibility_query(version)} AND TenantId != '{PLATFORM}' "
        f"AND StartTime >= '{since.isoformat()}'"
    )
    if jobs:
        where += f" AND WorkflowType IN ({_list(sorted(jobs)[:JOBS])})"
    tenants, names = await _tenants(client, f"{where} AND {_ENDED}")
    if not tenants:
        return Ended()
    bad, more = await _tenants(client, f"{where} AND {_FAILED}", among=tenants)
    runs = await client.count_workflows(f"{where} AND {_ENDED}")
    failed = await client.count_workflows(f"{where} AND {_FAILED}")
    return Ended(runs.count, failed.count, tenants, bad, names | more)


async def _tenants(
    client: Client, where: str, among: Collection[str] | None = None
) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the tenants that have such runs, and the jobs that were seen.

    A tenant that was seen is left out of the next request, so one with very many runs hides none.
    """
    tenants: set[str] = set()
    jobs: set[str] = set()
    for _ in range(PAGES):
        query = where
        if among is not None:
            left = sorted(set(among) - tenants)
            if not left:
                break
            query += f" AND TenantId IN ({_list(left)})"
        elif tenants:
            query += f" AND TenantId NOT IN ({_list(sorted(tenants))})"
        seen = 0
        async for run in client.list_workflows(query, page_size=PAGE, limit=PAGE):
            seen += 1
            jobs.add(run.workflow_type)
            tenant = run.typed_search_attributes.get(TENANT_ID)
            if tenant is not None:
                tenants.add(tenant)
        if seen < PAGE or len(tenants) >= TENANTS:
            break
    return frozenset(tenants), frozenset(jobs)


def _list(values: Collection[str]) -> str:
    return ", ".join(quoted_value(value) for value in values)
