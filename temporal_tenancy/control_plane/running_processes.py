"""The processes that run: what each was started with, to find those that are out of date."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.failures import root_cause, type_of
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.revisions import newest_revisions, revisions_of

SEEN_EVERY: Final = timedelta(seconds=30)
GONE_AFTER: Final = 3 * SEEN_EVERY
"""A process that has not been seen for so long has been killed."""
FORGOTTEN_AFTER: Final = timedelta(days=1)
LAST_WRITE: Final = 2.0  # seconds; a process that ends does not wait longer for the database
ANNOUNCE: Final = "say that this process runs"

log: Final = logging.getLogger(__name__)

What = Literal["configuration", "migrations"]

_ANNOUNCE: Final = library_text("""
    with forgotten as (
        delete from tenancy.running_processes where seen_at < now() - cast(:forget as interval)
    )
    insert into tenancy.running_processes
        (kind, identity, serves, version, configuration, revisions, started_at)
    values (:kind, :identity, :serves, :version, :configuration, cast(:revisions as jsonb),
        :started_at)
    on conflict (kind, identity) do update
       set serves = excluded.serves, version = excluded.version,
           configuration = excluded.configuration, revisions = excluded.revisions,
           started_at = excluded.started_at, seen_at = now()
""")
# Not the row of a process that has taken the identity meanwhile.
_LEAVE: Final = library_text("""
    delete from tenancy.running_processes
    where kind = :kind and identity = :identity and started_at = :started_at
""")
_RUNNING: Final = library_text("""
    select kind, identity, serves, configuration, revisions, version, started_at
    from tenancy.running_processes
    where seen_at > now() - cast(:gone as interval)
    order by kind, started_at, identity
""")


@dataclass(frozen=True)
class RunningProcess:
    """A process, and what it was started with."""

    kind: str  # such as "worker", "relay" or "web"
    identity: str  # in Temporal and in log lines
    serves: str  # such as its queues, with commas: who serves the same is configured alike
    configuration: str  # a digest
    revisions: Mapping[str, str] = field(default_factory=newest_revisions)
    """The newest migration that its code knows, by environment."""
    version: str = ""  # of its code; empty: unknown
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))  # aware


@dataclass(frozen=True)
class OutOfDate:
    """A process that is older than what is in force."""

    process: RunningProcess
    what: What
    has: str  # the digest of its configuration, or the newest migration that it knows
    in_force: str
    by: str  # the identity of the process that has it, or the migrations' environment


def configuration_digest(configuration: object) -> str:
    """Returns a digest of a configuration, which may hold secrets, as 12 hexadecimal digits.

    `configuration` is what JSON can hold; anything else counts as its text. It is a slow digest, so
    that nobody finds a secret in it by trying.
    """
    return _digest(json.dumps(configuration, sort_keys=True, default=str))


@lru_cache(maxsize=1)  # a process's row and its metrics say the same
def _digest(text: str) -> str:
    return hashlib.scrypt(text.encode(), salt=b"temporal-tenancy", n=2**14, r=8, p=1, dklen=6).hex()


@asynccontextmanager
async def announced(
    database: Database, process: RunningProcess, *, every: timedelta = SEEN_EVERY
) -> AsyncIterator[None]:
    """Says in the database that `process` runs, during the block.

    The first time is in the background too: a database that is away holds nothing up.

    Args:
        database: whose platform's role, or the relay's, writes the row.
        process: this one.
        every: how often it says so; others take one for gone that has not for 90 seconds.
    """
    task = asyncio.create_task(_repeat(database, process, every))
    try:
        yield
    finally:
        await end_tasks(task)
        try:
            async with asyncio.timeout(LAST_WRITE), database.platform_session(ANNOUNCE) as session:
                values = {"kind": process.kind, "identity": process.identity}
                await session.execute(_LEAVE, {**values, "started_at": process.started_at})
        except Exception as error:  # of the database: the row is ignored after a while
            _warn(error)


async def running_processes(session: AsyncSession) -> Sequence[RunningProcess]:
    """Returns the processes that run, by kind, the oldest first."""
    rows = await session.execute(_RUNNING, {"gone": GONE_AFTER})
    return [RunningProcess(*row) for row in rows]


def out_of_date(
    running: Sequence[RunningProcess],
    applied: Mapping[str, str],
    environments: Iterable[MigrationEnvironment] = LIBRARY,
) -> Sequence[OutOfDate]:
    """Returns the processes that are older than the configuration or the migrations in force.

    Of processes of one kind and version that serve the same, the configuration of the last that was
    started is in force. Another version may have other settings, and runs beside it on purpose
    while it is released.

    Args:
        running: the processes.
        applied: the migration that the database is at, by environment.
        environments: whose migrations this code knows.
    """
    newest: dict[tuple[str, str, str], RunningProcess] = {}
    for process in running:
        group = _alike(process)
        if group not in newest or newest[group].started_at <= process.started_at:
            newest[group] = process
    found = []
    for process in running:
        last = newest[_alike(process)]
        if process.configuration != last.configuration:
            had, now = process.configuration, last.configuration
            found.append(OutOfDate(process, "configuration", had, now, last.identity))
        for environment in environments:
            knows, has = process.revisions.get(environment.name), applied.get(environment.name)
            if knows is not None and has is not None and _is_before(knows, has, environment):
                found.append(OutOfDate(process, "migrations", knows, has, environment.name))
    return found


def versions_of(running: Iterable[RunningProcess]) -> Mapping[tuple[str, str], Set[str]]:
    """Returns the known versions of the processes, by kind and by each of what they serve."""
    found: dict[tuple[str, str], set[str]] = {}
    for process in running:
        for served in process.serves.split(","):
            found.setdefault((process.kind, served), set()).update({process.version} - {""})
    return found


def _alike(process: RunningProcess) -> tuple[str, str, str]:
    return process.kind, process.serves, process.version


def _is_before(revision: str, applied: str, environment: MigrationEnvironment) -> bool:
    known = list(revisions_of(environment))  # the newest first
    if revision == applied or revision not in known:
        return False
    return applied not in known or known.index(revision) > known.index(applied)


async def _repeat(database: Database, process: RunningProcess, every: timedelta) -> None:
    failed = False
    values = {
        "kind": process.kind,
        "identity": process.identity,
        "serves": process.serves,
        "version": process.version,
        "configuration": process.configuration,
        "revisions": json.dumps(dict(process.revisions)),
        "started_at": process.started_at,
        "forget": FORGOTTEN_AFTER,
    }
    while True:
        try:
            async with database.platform_session(ANNOUNCE) as session:
                await session.execute(_ANNOUNCE, values)
            failed = False
        except Exception as error:  # of the database
            if not failed:
                _warn(error)
            failed = True
        await asyncio.sleep(every.total_seconds())


def _warn(error: Exception) -> None:
    fields = {"error_type": type_of(root_cause(error))}
    log.warning("process.not_announced", extra=fields)
