"""What a relay asks the database and Temporal, for the gauges that no process knows by itself.

Each question reads a bounded number of rows, under a statement timeout of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.api.enums.v1 import WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueueVersioningInfo
from temporalio.client import Client

from temporal_tenancy.control_plane.running_processes import (
    What,
    out_of_date,
    running_processes,
)
from temporal_tenancy.control_plane.tables import IS_OPEN
from temporal_tenancy.core.directory import Tenant, TenantDirectory, TenantStatus
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.deployments.polling import KINDS, RPC_TIMEOUT, described, recent
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics.catalogue import OTHER, Instrument, Labels
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.outbox.relay.admission import NOTHING, Decision
from temporal_tenancy.outbox.relay.queue import waiting_tenants
from temporal_tenancy.outbox.tables import IS_PROCESSING, IS_WAITING, MessageStatus
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.revisions import applied_revisions
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.suspension import PAUSED_RUNS
from temporal_tenancy.ticks.schedule_drift import differences
from temporal_tenancy.ticks.schedules import ScheduledJob

ROWS: Final = 100_000
"""How many messages, and how many dead letters, are counted about at most, in equal shares."""
STATEMENT_SECONDS: Final = 5
AT_ONCE: Final = 4  # requests to Temporal

Found = dict[Instrument, dict[Labels, float]]

_LIMIT: Final = text(f"set local statement_timeout = '{STATEMENT_SECONDS}s'")


def _counted(name: str, when: str) -> str:
    """Returns SQL that counts a tenant's waiting messages of a time, by why they wait."""
    return f"""
        select count(*) as found,
            count(*) filter (where status = '{MessageStatus.PENDING}') as {name},
            count(*) filter (where status = '{MessageStatus.FAILED}') as retry
        from (
            select message.status from generate_series(1, 5) as level
            cross join lateral (
                select status from tenancy.outbox_messages
                where tenant_id = tenants.tenant_id and priority = level
                    and {IS_WAITING} and {when}
                order by scheduled_at limit :quota
            ) as message
            limit :quota
        ) as counted
    """


# Each tenant's rows are read through an index, up to a quota of its own, so that no tenant's rows
# use up another's part. Due and later messages have a quota each, and the oldest of each priority
# is found however many there are.
_OUTBOX: Final = library_text(f"""
    select tenants.tenant_id, due.due, due.retry + later.retry as retry, later.later,
        due.found + later.found as found, greatest(due.found, later.found) as most, oldest.due_for
    from unnest(cast(:tenants as text[])) as tenants (tenant_id)
    cross join lateral ({_counted("due", "scheduled_at <= now()")}) as due
    cross join lateral ({_counted("later", "scheduled_at > now()")}) as later
    cross join lateral (
        select cast(extract(epoch from now() - min(scheduled_at)) as float8) as due_for
        from generate_series(1, 5) as level
        cross join lateral (
            select scheduled_at from tenancy.outbox_messages
            where tenant_id = tenants.tenant_id and priority = level
                and {IS_WAITING} and scheduled_at <= now() and scheduled_at > '-infinity'
            order by scheduled_at limit 1
        ) as message
    ) as oldest
""")
_PROCESSING: Final = library_text(f"""
    select count(*) from (
        select from tenancy.outbox_messages
        where {IS_PROCESSING} and tenant_id <> '{PLATFORM}'
        limit {ROWS}
    ) as counted
""")
_LETTER_TENANTS: Final = library_text(f"""
    with recursive tenants as (
        (
            select tenant_id from tenancy.dead_letters where {IS_OPEN}
            order by tenant_id limit 1
        )
        union all
        select (
            select tenant_id from tenancy.dead_letters
            where {IS_OPEN} and tenant_id > tenants.tenant_id
            order by tenant_id limit 1
        )
        from tenants
        where tenants.tenant_id is not null
    )
    select tenant_id from tenants where tenant_id is not null limit {ROWS}
""")
# A tenant may have written any name of a job.
_LETTERS: Final = library_text(f"""
    select tenants.tenant_id, counted.job, count(*) as found, count(*) as most,
        cast(extract(epoch from now() - min(failed_at) filter (where isfinite(failed_at)))
            as float8) as age
    from unnest(cast(:tenants as text[])) as tenants (tenant_id)
    cross join lateral (
        select case when job = any(cast(:jobs as text[])) then job else '{OTHER}' end as job,
            failed_at
        from tenancy.dead_letters
        where tenant_id = tenants.tenant_id and {IS_OPEN}
        order by failed_at limit :quota
    ) as counted
    group by tenants.tenant_id, counted.job
""")
_TICKS: Final = library_text("""
    select distinct on (job) job, tick, state,
        -- A tick of long ago is a backfill's, and not late.
        case when started_at - nominal_time < interval '7 days'
            then cast(extract(epoch from started_at - nominal_time) as float8) end as lag,
        cast(extract(epoch from now() - started_at) as float8) as running_for
    from tenancy.ticks
    where started_at > now() - interval '35 days' and state <> 'missed'
    order by job, started_at desc
""")
_TICKS_MISSED: Final = library_text("""
    select job, count(*) as ticks from tenancy.ticks
    where started_at > now() - interval '7 days' and state = 'missed'
    group by job
""")
_TICK_TENANTS: Final = library_text("""
    select latest.job, ledger.state, count(*) as tenants
    from unnest(cast(:jobs as text[]), cast(:ticks as text[])) as latest (job, tick)
    join tenancy.ledger on ledger.job = latest.job and ledger.tick = latest.tick
    group by latest.job, ledger.state
""")
_TENANTS_MISSED: Final = library_text("""
    select ticks.job, count(*) as tenants
    from tenancy.ticks
    join tenancy.ledger on ledger.job = ticks.job and ledger.tick = ticks.tick
        and ledger.state in ('failed', 'not_started')
    where ticks.started_at > now() - interval '7 days' and ticks.state <> 'running'
    group by ticks.job
""")


async def of_outbox(database: Database, directory: TenantDirectory) -> Found:
    """Counts the messages of the outbox and the open dead letters, by what they wait for.

    Of a dead letter's job only the names of this process's own jobs are told.
    """
    jobs = {"jobs": list(registry)}
    async with database.platform_session("measure the outbox") as session:
        await session.execute(_LIMIT)
        waiting = await waiting_tenants(session, after="", limit=ROWS)
        tenants = [tenant for tenant in waiting if tenant != PLATFORM]
        rows, in_part = await _in_shares(session, _OUTBOX, tenants)
        processing = (await session.scalars(_PROCESSING)).one()
        decided = await admission.decisions(session, tenants)
        running = await admission.in_flight(session, tenants)
        failing = list(await session.scalars(_LETTER_TENANTS))
        letters, letters_in_part = await _in_shares(session, _LETTERS, failing, jobs)
    records = {tenant.id: tenant for tenant in await directory.find_many(tenants)}
    reasons: Counter[Labels] = Counter({("processing",): processing})
    oldest = 0.0
    for row in rows:
        reason = _reason(
            records.get(row.tenant_id),
            decided.get(row.tenant_id, NOTHING),
            running.get(row.tenant_id, 0),
        )
        reasons[reason or "due",] += row.due
        reasons["later",] += row.later
        reasons["retry",] += row.retry
        if reason is None and row.due_for is not None:
            oldest = max(oldest, row.due_for)
    for reason in ("due", "later", "retry", "processing", "paused", "suspended", "capped"):
        reasons[reason,] += 0
    by_job: Counter[Labels] = Counter()
    for row in letters:
        by_job[row.job,] += row.found
    ages = [row.age for row in letters if row.age is not None]
    full = (
        in_part
        or letters_in_part
        or processing >= ROWS
        or max(map(len, (waiting, failing))) >= ROWS
    )
    return {
        of.MESSAGES: {reason: float(count) for reason, count in reasons.items()},
        of.OLDEST_DUE: {(): oldest},
        of.LETTERS: {job: float(count) for job, count in by_job.items()},
        of.OLDEST_LETTER: {(): max(ages, default=0.0)},
        of.IN_PART: {("outbox",): float(full)},
    }


async def of_ledger(database: Database) -> Found:
    """Counts the tenants of each job's latest tick, and what was missed in the last days."""
    async with database.platform_session("measure the ledger") as session:
        await session.execute(_LIMIT)
        ticks = list(await session.execute(_TICKS))
        names = {"jobs": [row.job for row in ticks], "ticks": [row.tick for row in ticks]}
        tenants = list(await session.execute(_TICK_TENANTS, names))
        ticks_missed = await _counts(session, _TICKS_MISSED)
        tenants_missed = await _counts(session, _TENANTS_MISSED)
    jobs = [row.job for row in ticks]
    return {
        of.TICK_TENANTS: {(row.job, row.state): float(row.tenants) for row in tenants},
        of.TICK_LAG: {(row.job,): row.lag for row in ticks if row.lag is not None},
        of.TICK_RUNNING: {
            (row.job,): row.running_for if row.state == "running" else 0.0 for row in ticks
        },
        of.TICKS_MISSED: {(job,): ticks_missed.get(job, 0.0) for job in {*jobs, *ticks_missed}},
        of.TENANTS_MISSED: {(job,): tenants_missed.get(job, 0.0) for job in jobs},
    }


async def of_processes(
    database: Database, application: Iterable[MigrationEnvironment] = ()
) -> Found:
    """Counts the processes that are older than the configuration or the migrations in force.

    The migrations are the library's and those of `application`.
    """
    environments = (*LIBRARY, *application)
    async with database.platform_session("measure the processes") as session:
        await session.execute(_LIMIT)
        running = await running_processes(session)
        applied = await applied_revisions(session, environments)
    found = await asyncio.to_thread(out_of_date, running, applied, environments)
    counts = Counter({(each.kind, what): 0 for each in running for what in get_args(What)})
    old = {(each.process.kind, each.what, each.process.identity) for each in found}
    counts.update((kind, what) for kind, what, _ in old)
    return {of.OUT_OF_DATE: {labels: float(count) for labels, count in counts.items()}}


async def of_temporal(client: Client, queues: Collection[str]) -> Found:
    """Asks Temporal about the task queues, and how many runs are paused."""
    found: Found = defaultdict(dict)
    gate = asyncio.Semaphore(AT_ONCE)
    builds: dict[str, set[str]] = {queue: set() for queue in queues}

    async def ask(queue: str, kind: str) -> None:
        async with gate:
            answer = await described(client, queue, kind, report_stats=True)
        for priority, stats in answer.stats_by_priority_key.items():
            labels = (queue, kind, str(priority))
            found[of.BACKLOG][labels] = float(stats.approximate_backlog_count)
            age = stats.approximate_backlog_age.ToTimedelta().total_seconds()
            found[of.BACKLOG_AGE][labels] = age
        if not answer.stats_by_priority_key:
            found[of.BACKLOG][queue, kind, "3"] = float(answer.stats.approximate_backlog_count)
            age = answer.stats.approximate_backlog_age.ToTimedelta().total_seconds()
            found[of.BACKLOG_AGE][queue, kind, "3"] = age
        pollers = recent(answer.pollers)
        for current, count in _workers(pollers, answer.versioning_info).items():
            found[of.POLLERS][queue, kind, current] = float(count)
        builds[queue] |= {build_of(poller) for poller in pollers} - {""}

    await asyncio.gather(*(ask(queue, kind) for queue in queues for kind in KINDS))
    for queue, versions in builds.items():
        found[of.VERSIONS][queue,] = float(len(versions))
    paused = await client.count_workflows(PAUSED_RUNS, rpc_timeout=RPC_TIMEOUT)
    found[of.PAUSED][()] = float(paused.count)
    return found


def _workers(pollers: Iterable[PollerInfo], versions: TaskQueueVersioningInfo) -> Mapping[str, int]:
    """Counts workers by whether they are of the task queue's current version.

    New runs of a queue without one go to unversioned workers.
    """
    current = versions.current_deployment_version
    identities: dict[str, set[str]] = {"yes": set(), "no": set()}
    for poller in pollers:
        said = poller.deployment_options
        version = ("", "")
        if said.worker_versioning_mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED:
            version = said.deployment_name, said.build_id
        is_current = version == (current.deployment_name, current.build_id)
        identities["yes" if is_current else "no"].add(poller.identity)
    return {key: len(found) for key, found in identities.items()}


async def of_schedules(client: Client, schedules: Sequence[ScheduledJob]) -> Found:
    """Compares the server's schedules with the declared ones."""
    states = Counter({"as_declared": 0, "different": 0, "missing": 0, "paused": 0})
    for scheduled in schedules:
        states[await _state(client, scheduled)] += 1
    return {of.SCHEDULES: {(state,): float(count) for state, count in states.items()}}


async def _state(client: Client, scheduled: ScheduledJob) -> str:
    handle = client.get_schedule_handle(scheduled.id)
    description = await if_known(handle.describe(rpc_timeout=RPC_TIMEOUT))
    if description is None:
        return "missing"
    if await differences(client, scheduled.schedule(), scheduled.server_line, description):
        return "different"
    return "paused" if description.schedule.state.paused else "as_declared"


def _reason(tenant: Tenant | None, decision: Decision, running: int) -> str | None:
    """Returns what holds back a tenant's due messages; None: nothing does."""
    if decision.paused_since is not None:
        return "paused"
    if tenant is not None and tenant.status is TenantStatus.SUSPENDED:
        return "suspended"
    cap = admission.cap_of(tenant, decision)
    return "capped" if cap is not None and running >= cap else None


async def _in_shares(
    session: AsyncSession,
    statement: TextClause,
    tenants: Sequence[str],
    values: Mapping[str, object] | None = None,
) -> tuple[Sequence[Row[Any]], bool]:
    """Reads rows of each tenant, about `ROWS` in all; tells whether some tenant has more.

    Every tenant has the same share. What some do not use, those that have more divide.
    """
    if not tenants:
        return [], False
    share = max(1, ROWS // len(tenants))

    async def ask(asked: Sequence[str], quota: int) -> tuple[list[Row[Any]], list[str]]:
        given = {**(values or {}), "tenants": list(asked), "quota": quota}
        rows = list(await session.execute(statement, given))
        most: Counter[str] = Counter()
        for row in rows:
            most[row.tenant_id] += row.most
        return rows, [tenant for tenant in asked if most[tenant] >= quota]

    rows, full = await ask(tenants, share)
    unused = (ROWS - sum(row.found for row in rows)) // len(full) if full else 0
    if unused > 0:
        has_more = frozenset(full)
        more, full = await ask(full, share + unused)
        rows = [row for row in rows if row.tenant_id not in has_more] + more
    return rows, bool(full)


async def _counts(session: AsyncSession, statement: object) -> dict[str, float]:
    return {job: float(count) for job, count in await session.execute(statement)}  # type: ignore[call-overload]


def build_of(poller: PollerInfo) -> str:
    """Returns the build id that a worker says, or an empty string."""
    return poller.deployment_options.build_id or poller.worker_version_capabilities.build_id


def now() -> float:
    """Returns the Unix time in seconds."""
    return time.time()
