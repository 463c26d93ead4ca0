"""Adds up what each tenant's jobs use, in this process, and writes it by the hour."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.observations import (
    AttemptEnded,
    ConnectionHeld,
    Observation,
    RunEnded,
    add_observer,
    remove_observer,
)
from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.metering import _table as table
from temporal_tenancy.metering._table import Key, Used
from temporal_tenancy.postgres.database import Database

FLUSHED_EVERY: Final = timedelta(minutes=1)
LAST_FLUSH: Final = 5.0  # seconds; a process that ends does not wait longer for the database
KEYS: Final = 200_000
"""How many sums are kept while the database is away; then jobs of a tenant are added together."""
OTHER: Final = "other"  # the job of what is added together

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sums:
    worker_seconds: float = 0.0
    database_seconds: float = 0.0
    attempts: int = 0
    workflows: int = 0


class Meter:
    """What this process has used and not yet written, by tenant, job and hour.

    An attempt counts in the hour in which it ends, with its time in its slot. One that is killed
    with its process does not end, and so is not counted; neither are the sums since the last flush.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`clock` returns the time, aware."""
        self._clock = clock
        self._lock = threading.Lock()
        self._sums: dict[Key, _Sums] = {}
        self._running = 0
        self._flusher: asyncio.Task[None] | None = None

    def observe(self, observation: Observation) -> None:
        """Adds an observation to its tenant's and job's sums."""
        match observation:
            case AttemptEnded(work=work, seconds=seconds):
                with self._lock:
                    sums = self._of(work.tenant_id, work.job)
                    sums.worker_seconds += seconds
                    sums.attempts += 1
            case ConnectionHeld(tenant_id=tenant, job=job, seconds=seconds):
                with self._lock:
                    self._of(tenant, job).database_seconds += seconds
            case RunEnded(tenant_id=tenant, job=job, outcome=outcome):
                if outcome != "continued":
                    with self._lock:
                        self._of(tenant, job).workflows += 1
            case _:
                pass

    @asynccontextmanager
    async def metering(self, database: Database, every: timedelta) -> AsyncIterator[None]:
        """Meters during the block, and writes the sums `every` so often and at its end.

        Several blocks may be open at once, such as one for each worker of a process. The first
        one's database is written to.
        """
        self._running += 1
        if self._running == 1:
            add_observer(self.observe)
            self._flusher = asyncio.create_task(self._repeat(database, every))
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                remove_observer(self.observe)
                if self._flusher is not None:
                    await end_tasks(self._flusher)
                await self._flush_last(database)

    async def flush(self, database: Database) -> None:
        """Writes the sums; if that fails, keeps them for the next flush, and raises.

        If the connection is lost during the commit, they may have been written, and are written
        again.
        """
        with self._lock:
            taken, self._sums = self._sums, {}
        try:
            await table.add(
                database,
                {
                    key: Used(s.worker_seconds, s.database_seconds, s.attempts, s.workflows)
                    for key, s in taken.items()
                },
            )
        except BaseException:
            self._give_back(taken)
            raise

    def _of(self, tenant: str | None, job: str | None) -> _Sums:
        now = self._clock()
        hour = now.replace(minute=0, second=0, microsecond=0)
        key = Key(tenant or PLATFORM, job or "", hour)
        found = self._sums.get(key)
        if found is None:
            if len(self._sums) >= KEYS:
                key = Key(key.tenant_id, OTHER, hour)
                found = self._sums.get(key)
            if found is None:
                found = self._sums[key] = _Sums()
        return found

    def _give_back(self, taken: dict[Key, _Sums]) -> None:
        with self._lock:
            for key, sums in taken.items():
                own = self._sums.setdefault(key, _Sums())
                own.worker_seconds += sums.worker_seconds
                own.database_seconds += sums.database_seconds
                own.attempts += sums.attempts
                own.workflows += sums.workflows

    async def _repeat(self, database: Database, every: timedelta) -> None:
        failed = False
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                await self.flush(database)
                failed = False
            except Exception as error:  # of the database; the sums are kept
                if not failed:
                    fields = {"error_type": type(error).__name__}
                    log.warning("metering.not_written", extra=fields)
                failed = True

    async def _flush_last(self, database: Database) -> None:
        try:
            async with asyncio.timeout(LAST_FLUSH):
                await self.flush(database)
        except Exception as error:  # the process ends
            log.error("metering.lost", extra={"error_type": type(error).__name__})
