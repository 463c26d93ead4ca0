"""The table of what tenants' jobs used: one row for each tenant, job and hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from sqlalchemy import text

from temporal_tenancy.control_plane.tables import USED_MAX
from temporal_tenancy.core.failures import storable
from temporal_tenancy.core.identifiers import PLATFORM, tenant_id
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text

BATCH: Final = 5_000  # rows of one statement

# In the order of the key, so that two processes that write the same rows wait, and not deadlock.
_ADD: Final = library_text(f"""
    insert into tenancy.metered_hours
        (tenant_id, job, hour, worker_seconds, database_seconds, attempts, workflows)
    select * from unnest(
        cast(:tenants as text[]), cast(:jobs as text[]), cast(:hours as timestamptz[]),
        cast(:worker as float8[]), cast(:database as float8[]),
        cast(:attempts as bigint[]), cast(:workflows as bigint[])
    )
    on conflict (tenant_id, job, hour) do update
       set worker_seconds = least(
               metered_hours.worker_seconds + excluded.worker_seconds, {USED_MAX}
           ),
           database_seconds = least(
               metered_hours.database_seconds + excluded.database_seconds, {USED_MAX}
           ),
           attempts = least(
               metered_hours.attempts + excluded.attempts, {USED_MAX}
           ),
           workflows = least(
               metered_hours.workflows + excluded.workflows, {USED_MAX}
           )
""")  # noqa: S608  # a number of our own
_TRANSACTION: Final = text("select cast(cast(pg_current_xact_id() as text) as bigint)")
# The server refuses to be asked about a transaction that it has not begun, such as one of a primary
# that it has replaced.
_STATUS: Final = text("""
    select case
        when cast(:transaction as xid8) < pg_current_xact_id()
        then pg_xact_status(cast(:transaction as xid8))
    end
""")
_READ: Final = """
    select {by} as name, sum(worker_seconds) as worker_seconds,
        sum(database_seconds) as database_seconds,
        sum(attempts) as attempts, sum(workflows) as workflows
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


async def add(
    database: Database, sums: Mapping[Key, Used], committing: Callable[[int], None] | None = None
) -> None:
    """Adds sums to the table, in one transaction.

    Args:
        database: whose platform's role writes the table.
        sums: what was used.
        committing: is called with the transaction's id, for `is_committed`, before the commit.
    """
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
        transaction = (await session.scalars(_TRANSACTION)).one()
        if committing is not None:
            committing(int(transaction))


async def is_committed(database: Database, transaction: int) -> bool | None:
    """Returns whether a transaction of `add` took effect; None: it has not ended.

    One that the database does not know any more did not take effect, as far as anybody can tell.
    """
    async with database.platform_session("ask for what was written") as session:
        status = await session.scalar(_STATUS, {"transaction": str(transaction)})
    return None if status == "in progress" else status == "committed"


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
                Used(
                    row.worker_seconds,
                    row.database_seconds,
                    int(row.attempts),  # a sum of bigints is numeric
                    int(row.workflows),
                ),
            )
            for row in rows
        ]
