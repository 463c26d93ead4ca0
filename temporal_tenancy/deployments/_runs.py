"""How the tenants' runs on a worker version ended, as the server has them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.deployments.versions import quoted_value, visibility_query
from temporal_tenancy.sdk.agreement import TENANT_ID

TENANTS: Final = 200  # that are looked at, those whose runs ended last
PAGE: Final = 200  # runs in a request
PAGES: Final = 20  # requests for one answer
JOBS: Final = 50

_TICK: Final = timedelta(microseconds=1)  # the server's times are finer than ours

# A run that was terminated says nothing about its code: an operator did it.
_FAILURES: Final = {
    WorkflowExecutionStatus.FAILED: "Failed",
    WorkflowExecutionStatus.TIMED_OUT: "TimedOut",
}
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
    """Returns the ended runs of a version that began at `since` or later, as of one moment.

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
    ended = f"{where} AND {_ENDED}"
    first = [run async for run in client.list_workflows(ended, page_size=PAGE, limit=PAGE)]
    if len(first) < PAGE:
        return _counted(first)
    until = _until(first)  # more answers are needed
    runs, failed = await _count(client, ended + until)
    tenants, names = await _tenants(client, ended + until)
    bad, more = await _tenants(client, f"{where} AND {_FAILED}{until}", among=tenants)
    return Ended(runs, failed, tenants, bad, names | more)


def _until(first: Collection[WorkflowExecution]) -> str:
    """Returns a condition for runs that had ended when these were listed.

    Runs go on ending between two answers. With the runs of all tenants beside the tenants of a
    moment ago, a good version looks bad.
    """
    last = max(run.close_time for run in first if run.close_time is not None)
    return f" AND CloseTime <= '{(last + _TICK).isoformat()}'"


def _counted(runs: Collection[WorkflowExecution]) -> Ended:
    """Counts runs that are all there are."""
    failed = [run for run in runs if run.status in _FAILURES]
    return Ended(
        runs=len(runs),
        failed=len(failed),
        tenants=frozenset(tenant for run in runs if (tenant := _tenant(run)) is not None),
        bad=frozenset(tenant for run in failed if (tenant := _tenant(run)) is not None),
        jobs=frozenset(run.workflow_type for run in runs),
    )


async def _count(client: Client, where: str) -> tuple[int, int]:
    """Returns how many runs there are, and how many of them failed, in one answer."""
    answer = await client.count_workflows(f"{where} GROUP BY ExecutionStatus")
    groups = {str(group.group_values[0]): group.count for group in answer.groups}
    return sum(groups.values()), sum(groups.get(status, 0) for status in _FAILURES.values())


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
            tenant = _tenant(run)
            if tenant is not None:
                tenants.add(tenant)
        if seen < PAGE or len(tenants) >= TENANTS:
            break
    return frozenset(tenants), frozenset(jobs)


def _tenant(run: WorkflowExecution) -> str | None:
    return run.typed_search_attributes.get(TENANT_ID)


def _list(values: Collection[str]) -> str:
    return ", ".join(quoted_value(value) for value in values)
