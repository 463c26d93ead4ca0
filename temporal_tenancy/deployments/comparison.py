"""Compares the runs of a release with those of the other versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.words import duration, number
from temporal_tenancy.deployments._runs import Ended, ended_runs
from temporal_tenancy.deployments.releases import Bounds, Release
from temporal_tenancy.deployments.versions import deployment_of
from temporal_tenancy.postgres.database import platform_session
from temporal_tenancy.postgres.library_text import library_text

SLOWER_BY: Final = timedelta(seconds=5)
"""A run that is slower by less is not slow: the ledger's times are a few seconds late."""

EARLIER_TICKS: Final = 5  # of a job, whose runs say how long each tenant takes

# A row whose deployment an earlier release did not say is of the release's, if its build id is.
# A run that has not ended counts with its time so far, on the release's side only: a build that
# hangs is slow, and the median can only be higher in the end. A tenant that is always slow is
# compared with its own earlier runs.
_BY_JOB: Final = library_text("""
    with recent as (
        select job, tick from tenancy.ticks
         where started_at >= :since or ended_at >= :since or state = 'running'
    ), runs as (
        select ledger.job, ledger.tenant_id, ledger.state,
               version.is_new,
               extract(epoch from coalesce(
                   ledger.ended_at, case when version.is_new then now() end
               ) - ledger.started_at) as seconds
          from tenancy.ledger
          join recent using (job, tick)
         cross join lateral (
               select coalesce(ledger.build_id = :build_id, false)
                  and coalesce(ledger.deployment, :deployment) = :deployment as is_new
               ) as version
         where ledger.started_at >= :since
           and ledger.state in ('running', 'succeeded', 'failed')
    ), earlier as (
        select job, tick
          from (select distinct job from runs where is_new) as compared
         cross join lateral (
               select ticks.tick from tenancy.ticks
                where ticks.job = compared.job and ticks.started_at < :since
                order by ticks.started_at desc limit :earlier_ticks
               ) as before
    ), own as (
        select job, percentile_cont(0.5) within group (
                   order by extract(epoch from ledger.ended_at - ledger.started_at)
               ) as seconds
          from tenancy.ledger
          join earlier using (job, tick)
         where ledger.state = 'succeeded' and ledger.started_at < :since
           and exists (select from runs
                        where runs.is_new and runs.job = ledger.job
                          and runs.tenant_id = ledger.tenant_id)
         group by job
    )
    select job,
           count(*) filter (where is_new) as new_runs,
           count(*) filter (where is_new and state <> 'running') as new_ended,
           count(*) filter (where is_new and state = 'failed') as new_failed,
           count(*) filter (where not is_new and state <> 'running') as old_ended,
           count(*) filter (where not is_new and state = 'failed') as old_failed,
           count(distinct tenant_id) filter (where is_new and state <> 'running') as new_tenants,
           count(distinct tenant_id) filter (where is_new and state = 'failed') as new_bad,
           count(distinct tenant_id) filter (where not is_new and state <> 'running')
               as old_tenants,
           count(distinct tenant_id) filter (where not is_new and state = 'failed') as old_bad,
           cast(percentile_cont(0.5) within group (order by seconds) filter (where is_new)
               as float) as new_seconds,
           cast(percentile_cont(0.5) within group (order by seconds)
               filter (where not is_new and state <> 'running') as float) as old_seconds,
           cast((select own.seconds from own where own.job = runs.job) as float) as own_seconds
      from runs
     group by job
     order by job
""")


@dataclass(frozen=True)
class Compared:
    """The runs of one kind since a release began: on its version (new) and on the others (old).

    Failures are counted by tenant: a customer whose runs fail is one tenant, however many it has.
    """

    what: str  # the job, or all runs
    new_runs: int
    new_ended: int
    new_failed: int
    old_ended: int
    old_failed: int
    new_tenants: int  # with a run that has ended
    new_bad: int  # of them, with a run that failed
    old_tenants: int
    old_bad: int
    new_seconds: float | None = None  # the median; a run that has not ended counts so far
    old_seconds: float | None = None  # the median
    own_seconds: float | None = None  # the median of the same tenants' runs before the release

    def failures(self, min_tenants: int) -> float:
        """The share of tenants with a failed run on the new version, less that of the others.

        Fewer than `min_tenants` others are no comparison: then it is the share itself.
        """
        new = self.new_bad / self.new_tenants if self.new_tenants else 0.0
        old = self.old_bad / self.old_tenants if self.old_tenants >= max(min_tenants, 1) else 0.0
        return new - old

    def fault(self, bounds: Bounds) -> str | None:
        """Says in a clause how the new version is worse than its bounds; None if it is not."""
        if (
            self.new_ended >= bounds.min_runs
            and self.new_bad >= bounds.min_tenants
            and self.failures(bounds.min_tenants) > bounds.max_failures
        ):
            return (
                f"{self.new_failed:,} of {number(self.new_ended, 'run')} of {self.what} failed, "
                f"of {self.new_bad:,} of {number(self.new_tenants, 'tenant')}, and on the other "
                f"versions {self.old_failed:,} of {self.old_ended:,}, of {self.old_bad:,} of "
                f"{number(self.old_tenants, 'tenant')}"
            )
        known = [each for each in (self.old_seconds, self.own_seconds) if each is not None]
        if self.new_runs < bounds.min_runs or self.new_seconds is None or not known:
            return None
        usual = max(known)
        if self.new_seconds > max(usual * bounds.max_slowdown, usual + SLOWER_BY.total_seconds()):
            new, old = timedelta(seconds=self.new_seconds), timedelta(seconds=usual)
            whose = "on the other versions" if usual == self.old_seconds else "before the release"
            return f"a run of {self.what} takes {duration(new)}, and {duration(old)} {whose}"
        return None


async def compare(client: Client, release: Release) -> Sequence[Compared]:
    """Compares the runs of a release with those of the other versions since it began.

    The ledger has the runs of fan-outs, by job, with their duration. The server has all runs, also
    those that a relay or a person started. Call it inside `use_database`, as the platform.

    Raises:
        RPCError: the server does not answer.
    """
    return [*await compare_ticks(release), await _all_runs(client, release)]


async def compare_ticks(release: Release) -> Sequence[Compared]:
    """Compares the runs of fan-outs, which the ledger has, by job; see `compare`."""
    parameters = {
        "build_id": release.build_id,
        "deployment": release.deployment,
        "since": release.began_at,
        "earlier_ticks": EARLIER_TICKS,
    }
    async with platform_session("compare a release with the other versions") as session:
        rows = (await session.execute(_BY_JOB, parameters)).all()
    return [Compared(*row) for row in rows if row.new_runs]


async def _all_runs(client: Client, release: Release) -> Compared:
    """Compares all runs that began since the release did, over the jobs that ran on its version."""
    new = await ended_runs(client, release.version, release.began_at)
    current = (await deployment_of(client, release.deployment)).current
    old = Ended()
    if new.jobs and current is not None and current != release.build_id:
        version = WorkerDeploymentVersion(release.deployment, current)
        old = await ended_runs(client, version, release.began_at, new.jobs)
    return Compared(
        "all tenants' jobs",
        new_runs=new.runs,
        new_ended=new.runs,
        new_failed=new.failed,
        old_ended=old.runs,
        old_failed=old.failed,
        new_tenants=len(new.tenants),
        new_bad=len(new.bad),
        old_tenants=len(old.tenants),
        old_bad=len(old.bad),
    )
