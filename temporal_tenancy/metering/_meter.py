"""Adds up what each tenant's jobs use, in this process, and writes it by the hour."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
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
CANCELLED_WITHIN: Final = 2.0  # seconds, for a flush that was not in time
KEYS: Final = 200_000
"""How many sums are kept while the database is away; then jobs of a tenant are added together.

With half as many sums again, what further tenants use is added together, by the hour.
"""
OTHER: Final = "other"  # the job of what is added together

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sums:
    worker_seconds: float = 0.0
    database_seconds: float = 0.0
    attempts: int = 0
    workflows: int = 0


@dataclass(slots=True)
class _Flush:
    """Sums that are being written."""

    sums: Mapping[Key, _Sums]
    transaction: int | None = None  # from before its commit on


class _Undecided(Exception):
    """The server does not say yet whether a flush was written."""


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
        self._flush: _Flush | None = None  # which runs, or may have been written
        self._ownerless = 0
        self._running = 0
        self._flusher: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._ending = asyncio.Event()

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
            self._ending = asyncio.Event()
            self._flusher = asyncio.create_task(self._repeat(database, every, self._ending))
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                remove_observer(self.observe)
                flusher, self._flusher = self._flusher, None
                await self._end(database, flusher)

    async def flush(self, database: Database) -> None:
        """Writes the sums, each once; if that fails, keeps them for the next flush, and raises.

        If the connection is lost during the commit, the next flush asks the server whether they
        were written.
        """
        async with self._flushing:
            await self._decide(database)
            await self._write(database)

    async def _write(self, database: Database) -> None:
        with self._lock:
            if not self._sums:
                return
            flush = self._flush = _Flush(self._sums)
            self._sums = {}

        def committing(transaction: int) -> None:
            flush.transaction = transaction

        try:
            await table.add(
                database,
                {
                    key: Used(s.worker_seconds, s.database_seconds, s.attempts, s.workflows)
                    for key, s in flush.sums.items()
                },
                committing,
            )
        except BaseException:
            if flush.transaction is None:  # nothing was committed
                self._give_back(flush)
            raise
        self._flush = None

    async def _decide(self, database: Database) -> None:
        """Finds out whether an earlier flush was written, whose end this process did not see."""
        flush = self._flush
        if flush is None or flush.transaction is None:
            return
        written = await table.is_committed(database, flush.transaction)
        if written is None:
            raise _Undecided
        if written:
            self._flush = None
        else:
            self._give_back(flush)

    def _of(self, tenant: str | None, job: str | None) -> _Sums:
        now = self._clock()
        hour = now.replace(minute=0, second=0, microsecond=0)
        return self._place(Key(tenant or PLATFORM, job or "", hour))

    def _place(self, key: Key) -> _Sums:
        """Returns the sums of a key, or where there are too many, those that it is added to."""
        found = self._sums.get(key)
        kept = len(self._sums) + (0 if self._flush is None else len(self._flush.sums))
        if found is None and kept >= KEYS:
            key = Key(key.tenant_id, OTHER, key.hour)
            found = self._sums.get(key)
            if found is None and kept >= KEYS + KEYS // 2:
                self._ownerless += 1
                key = Key(PLATFORM, OTHER, key.hour)
                found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sums()
        return found

    def _give_back(self, flush: _Flush) -> None:
        with self._lock:
            self._flush = None
            for key, sums in flush.sums.items():
                own = self._place(key)
                own.worker_seconds += sums.worker_seconds
                own.database_seconds += sums.database_seconds
                own.attempts += sums.attempts
                own.workflows += sums.workflows

    async def _repeat(self, database: Database, every: timedelta, ending: asyncio.Event) -> None:
        failed = False
        while not ending.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(every.total_seconds()):
                    await ending.wait()
            if ending.is_set():
                return
            try:
                await self.flush(database)
                failed = False
            except Exception as error:  # of the database; the sums are kept
                if not failed:
                    fields = {"error_type": type(error).__name__}
                    log.warning("metering.not_written", extra=fields)
                failed = True
            if self._ownerless:
                log.error("metering.ownerless", extra={"observations": self._ownerless})
                self._ownerless = 0

    async def _end(self, database: Database, flusher: asyncio.Task[None] | None) -> None:
        """Lets a flush that runs end, and writes the rest; none of it is written twice."""
        self._ending.set()
        try:
            async with asyncio.timeout(LAST_FLUSH):
                if flusher is not None:
                    await asyncio.wait([flusher])
                await self.flush(database)
        except Exception as error:  # the process ends
            log.error("metering.lost", extra={"error_type": type(error).__name__})
        finally:
            if flusher is not None:
                await end_tasks(flusher, within=CANCELLED_WITHIN)
