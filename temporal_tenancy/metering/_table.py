"""The table of what tenants' jobs used: one row for each tenant, job and hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from temporal_tenancy.core.failures import storable
from temporal_tenancy.core.identifiers import PLATFORM, tenant_id
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text

BATCH: Final = 5_000  # rows of one statement

# In the order of the key, so that two processes that write the same rows wait, and not deadlock.
_ADD: Final = library_text("""
    insert into tenancy.metered_hours
        (tenant_id, job, hour, worker_seconds, database_seconds, attempts, workflows)
    select * from unnest(
        cast(:tenants as text[]), cast(:jobs as text[]), cast(:hours as timestamptz[]),
        cast(:worker as float8[]), cast(:database as float8[]),
        cast(:attempts as bigint[]), cast(:workflows as bigint[])
    )
    on conflict (tenant_id, job, hour) do update
       set worker_seconds = metered_hours.worker_seconds + excluded.worker_seconds,
           database_seconds = metered_hours.database_seconds + excluded.database_seconds,
           attempts = metered_hours.attempts + excluded.attempts,
           workflows = metered_hours.workflows + excluded.workflows
""")
_READ: Final = """
    select {by} as name, sum(worker_seconds) as worker_seconds,
        sum(database_seconds) as database_seconds,
        cast(sum(attempts) as bigint) as attempts, cast(sum(workflows) as bigint) as workflows
    from tenancy.metered_hours
    where hour >= :since and hour < :until
        and tenant_id = coalesce(cast(:tenant as text), tenant_id)
    group by {by}
    order by 2 desc, 1
"""
_READ_BY: Final = {
    "tenant": library_text(_READ.format(by="tenant_id")),
    "job": library_text(_READ.format(by="job")),
}

By = Literal["tenant", "job"]
"""What a row of `usage()` is for."""


class Key(NamedTuple):
    """Whose use a sum is, and when."""

    tenant_id: str
    job: str  # empty: outside any job
    hour: datetime  # its start, in UTC


@dataclass(frozen=True)
class Used:
    """What was used."""

    worker_seconds: float  # time of attempts in their slots
    database_seconds: float  # time that sessions held connections
    attempts: int  # of activities
    workflows: int  # that have ended


@dataclass(frozen=True)
class Usage:
    """What a tenant, or a job, has used in a span of time."""

    name: str  # of the tenant or the job
    used: Used


async def add(database: Database, sums: Mapping[Key, Used]) -> None:
    """Adds sums to the table, in one transaction."""
    if not sums:
        return
    rows = sorted(sums.items())
    async with database.platform_session("write what tenants used") as session:
        for first in range(0, len(rows), BATCH):
            keys, used = zip(*rows[first : first + BATCH], strict=True)
            worker, in_database, attempts, workflows = zip(*map(astuple, used), strict=True)
            await session.execute(
                _ADD,
                {
                    "tenants": [key.tenant_id for key in keys],
                    "jobs": [storable(key.job) for key in keys],
                    "hours": [key.hour for key in keys],
                    "worker": list(worker),
                    "database": list(in_database),
                    "attempts": list(attempts),
                    "workflows": list(workflows),
                },
            )


async def usage(
    database: Database,
    *,
    since: datetime,
    until: datetime,
    tenant: str | None = None,
    by: By = "tenant",
) -> Sequence[Usage]:
    """Returns what was used in the hours from `since` until before `until`, most seconds first.

    Args:
        database: whose platform's role reads the table.
        since: aware; hours that begin earlier are left out.
        until: aware.
        tenant: only this tenant's, or "platform"; None: of all.
        by: whether each row is a tenant's or a job's.

    Raises:
        TenantInvalid: `tenant` is no tenant id, nor "platform".
        TenantMissing: it is empty.
    """
    if tenant is not None and tenant != PLATFORM:
        tenant_id(tenant)
    values = {"since": since, "until": until, "tenant": tenant}
    async with database.platform_session("read what tenants used") as session:
        rows = await session.execute(_READ_BY[by], values)
        return [
            Usage(
                row.name,
                Used(row.worker_seconds, row.database_seconds, row.attempts, row.workflows),
            )
            for row in rows
        ]
