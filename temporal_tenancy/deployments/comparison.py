"""Compares the runs of a release with those of the other versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.deployments.releases import Bounds, Release
from temporal_tenancy.deployments.versions import deployment_of, visibility_query
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.postgres.library_text import library_text

SLOWER_BY: Final = timedelta(seconds=5)
"""A run that is slower by less is not slow: the ledger's times are a few seconds late."""

# A run that has not ended counts with its time so far, on the release's side only: a build that
# hangs is slow, and the median can only be higher in the end.
_BY_JOB: Final = library_text("""
    with recent as (
        select job, tick from tenancy.ticks
         where started_at >= :since or ended_at >= :since or state = 'running'
    ), runs as (
        select ledger.job, ledger.state,
               ledger.build_id is not distinct from :build_id as is_new,
               extract(epoch from coalesce(
                   ledger.ended_at, case when ledger.build_id = :build_id then now() end
               ) - ledger.started_at) as seconds
          from tenancy.ledger
          join recent using (job, tick)
         where ledger.started_at >= :since
           and ledger.state in ('running', 'succeeded', 'failed')
    )
    select job,
           count(*) filter (where is_new) as new_runs,
           count(*) filter (where is_new and state <> 'running') as new_ended,
           count(*) filter (where is_new and state = 'failed') as new_failed,
           count(*) filter (where not is_new and state <> 'running') as old_ended,
           count(*) filter (where not is_new and state = 'failed') as old_failed,
           percentile_cont(0.5) within group (order by seconds) filter (where is_new)
               as new_seconds,
           percentile_cont(0.5) within group (order by seconds)
               filter (where not is_new and state <> 'running') as old_seconds
      from runs
     group by job
     order by job
""")


@dataclass(frozen=True)
class Compared:
    """The runs of one kind since a release began: on its version (new) and on the others (old)."""

    what: str  # the job, or all runs
    new_runs: int
    new_ended: int
    new_failed: int
    old_ended: int
    old_failed: int
    new_seconds: float | None = None  # the median; a run that has not ended counts so far
    old_seconds: float | None = None  # the median

    @property
    def failures(self) -> float:
        """The share of failed runs on the new version, less that of the others."""
        new = self.new_failed / self.new_ended if self.new_ended else 0.0
        old = self.old_failed / self.old_ended if self.old_ended else 0.0
        return new - old

    def fault(self, bounds: Bounds) -> str | None:
        """Says in a clause how the new version is worse than its bounds; None if it is not."""
        if self.new_ended >= bounds.min_runs and self.failures > bounds.max_failures:
            return (
                f"{self.new_failed:,} of {number(self.new_ended, 'run')} of {self.what} failed, "
                f"and {self.old_failed:,} of {self.old_ended:,} on the other versions"
            )
        if self.new_runs < bounds.min_runs or self.new_seconds is None or self.old_seconds is None:
            return None
        new, old = timedelta(seconds=self.new_seconds), timedelta(seconds=self.old_seconds)
        if new > max(old * bounds.max_slowdown, old + SLOWER_BY):
            return (
                f"a run of {self.what} takes {duration(new)}, and {duration(old)} on the other "
                "versions"
            )
        return None


async def compare(client: Client, release: Release) -> Sequence[Compared]:
    """Compares the runs of a release with those of the other versions since it began.

    The ledger has the runs of fan-outs, by job, with their duration. The server has all runs, also
    those that a relay or a person started. Call it inside `use_database`, as the platform.

    Raises:
        RPCError: the server does not answer.
    """
    parameters = {"build_id": release.build_id, "since": release.began_at}
    async with platform_session("compare a release with the other versions") as session:
        rows = (await session.execute(_BY_JOB, parameters)).all()
    found = [Compared(*row) for row in rows if row.new_runs]
    return [*found, await _all_runs(client, release)]


async def _all_runs(client: Client, release: Release) -> Compared:
    since = f"CloseTime >= '{release.began_at.isoformat()}'"
    new_ended, new_failed = await _ended(client, release.version, since)
    current = (await deployment_of(client, release.deployment)).current
    old_ended = old_failed = 0
    if current is not None and current != release.build_id:
        version = WorkerDeploymentVersion(release.deployment, current)
        old_ended, old_failed = await _ended(client, version, since)
    return Compared("all tenants' jobs", new_ended, new_ended, new_failed, old_ended, old_failed)


async def _ended(client: Client, version: WorkerDeploymentVersion, since: str) -> tuple[int, int]:
    """Returns how many runs of a version have ended, and how many of them badly."""
    tenants = f"TenantId != '{PLATFORM}'"
    where = f"{visibility_query(version)} AND {tenants} AND {since} AND ExecutionStatus"
    succeeded = await client.count_workflows(f"{where} = 'Completed'")
    failed = await client.count_workflows(f"{where} IN ('Failed', 'TimedOut', 'Terminated')")
    return succeeded.count + failed.count, failed.count
