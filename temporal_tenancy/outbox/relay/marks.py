"""What a relay marks, written some at a time beside what it does.

A tenant whose rows somebody holds locked is set apart: its marks come again later, by themselves,
and those of the others are written as ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

from sqlalchemy.exc import DBAPIError

from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable

GATHER_SECONDS: Final = 0.02  # that marks wait for others, so that many are one transaction
AGAIN_AFTER: Final = 0.5  # seconds, when the database is away
LOCK_WAIT: Final = timedelta(milliseconds=50)  # for a row that its tenant may have locked
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between tries, apart; the last repeats
APART_FOR: Final = 60.0  # seconds after the last try that failed
FINISH_SECONDS: Final = 5.0  # that the last tries of those who are apart may take

log: Final = logging.getLogger(__name__)


@dataclass
class _Waiting(Marks):
    """What is to be written, of one tenant or of several together; a relay gives back, too."""

    released: list[Message] = field(default_factory=list)
    free: list[tuple[str, str]] = field(default_factory=list)  # slots, by tenant and workflow

    def __bool__(self) -> bool:
        return super().__bool__() or len(self.free) > 0

    def __len__(self) -> int:
        return super().__len__() + len(self.released)

    def add(self, later: Self) -> None:
        super().add(later)
        self.released += later.released
        self.free += later.free


@dataclass
class _Apart:
    """A tenant whose marks are written by themselves for a while."""

    waiting: _Waiting = field(default_factory=_Waiting)
    tried: _Waiting = field(default_factory=_Waiting)  # just now, and not written yet
    failed: int = 0  # tries in a row
    due: float = 0.0  # when the next one is, on the monotonic clock
    until: float = 0.0

    def put_back(self, unwritten: _Waiting) -> None:
        """Puts what was taken out before what has come since."""
        unwritten.add(self.waiting)
        self.waiting = unwritten

    def put_off(self) -> None:
        """A try has failed: the next comes later, and later each time."""
        self.due = time.monotonic() + PAUSES[min(self.failed, len(PAUSES) - 1)]
        self.until = self.due + APART_FOR
        self.failed += 1


class MarkWriter:
    """Gathers marks, and writes them in the order of time.

    What is not written when the process dies is found after its lease: a message that was started
    is started again under the same id, which is the same workflow.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)  # by tenant
        self._written: dict[str, _Waiting] = {}  # just now, by tenant
        self._apart: dict[str, _Apart] = {}
        self._changed = asyncio.Event()
        self._apart_changed = asyncio.Event()
        self._tried = asyncio.Condition()
        self._tries = 0
        self._finishing = False
        self._writing = False

    def started(self, unit: Unit, *, frees_slot: bool = False) -> None:
        """The workflow is there. Messages that it works off stay in hand until it says more."""
        if not unit.coalesced:
            self._add(unit.tenant_id, _Waiting(completed=list(unit.messages)))
        if frees_slot:
            self._add(unit.tenant_id, _slot_of(unit))

    def released(self, unit: Unit) -> None:
        """Nothing was tried."""
        self._add(unit.tenant_id, _Waiting(released=list(unit.messages)))
        self._add(unit.tenant_id, _slot_of(unit))

    def not_started(self, unit: Unit, failed: Sequence[Failed]) -> None:
        """The attempt has failed."""
        self.failed(failed)
        self._add(unit.tenant_id, _slot_of(unit))

    def failed(self, failed: Sequence[Failed]) -> None:
        """These cannot be started at all."""
        for one in failed:
            self._add(one.message.tenant_id, _Waiting(failed=[one]))

    def unwritten(self, tenant: str) -> int:
        """How many of a tenant's messages wait for their marks, whether it is set apart or not."""
        apart = self._apart.get(tenant)
        of_apart = 0 if apart is None else len(apart.waiting) + len(apart.tried)
        return self.gathered(tenant) + of_apart

    def gathered(self, tenant: str) -> int:
        """How many of them are to be written with those of others, or are being written."""
        return sum(len(each[tenant]) for each in (self._waiting, self._written) if tenant in each)

    def finish(self) -> None:
        """Asks `run()` to write what is left and return; what is locked is left to its lease."""
        self._finishing = True
        self._changed.set()

    async def written(self) -> None:
        """Waits until all that was marked before is written, or has been tried and comes again."""
        enough = self._tries + 1 + self._writing
        async with self._tried:
            while (self._waiting or self._writing) and self._tries < enough:
                await self._tried.wait()

    async def run(self) -> None:
        """Writes marks until `finish()`."""
        apart = asyncio.create_task(self._write_apart())
        apart.add_done_callback(lambda _: self._changed.set())
        try:
            while not self._finishing or self._waiting:
                await self._changed.wait()
                if apart.done():
                    apart.result()
                if not self._finishing:
                    await asyncio.sleep(GATHER_SECONDS)
                self._changed.clear()
                await self._write()
        finally:
            apart.cancel()
            await asyncio.gather(apart, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                for each in self._apart.values():
                    if each.waiting:
                        await self._try(each)

    def _add(self, tenant: str, marks: _Waiting) -> None:
        if not marks:
            return
        apart = self._apart.get(tenant)
        if apart is None:
            self._waiting[tenant].add(marks)
            self._changed.set()
        else:
            apart.waiting.add(marks)
            self._apart_changed.set()

    async def _write(self) -> None:
        waiting = self._written = self._waiting
        self._waiting = defaultdict(_Waiting)
        self._writing = True
        try:
            await self._write_together(waiting)
        except (DatabaseProblem, DBAPIError) as error:
            log.warning("relay.marks_unwritten", extra={"error_type": type(error).__name__})
            self._put_back(waiting)
        finally:
            self._written = {}
            self._writing = False
            self._tries += 1
            async with self._tried:
                self._tried.notify_all()
        if waiting and not self._finishing:
            await asyncio.sleep(AGAIN_AFTER)

    async def _write_together(self, waiting: dict[str, _Waiting]) -> None:
        """Writes what is `waiting` and empties it: in one transaction, or else tenant by tenant.

        Raises where it is not one tenant's trouble; what was not written is still `waiting`.
        """
        together = _Waiting()
        for marks in waiting.values():
            together.add(marks)
        try:
            await self._write_all(together)
        except DatabaseUnreachable:
            raise
        except (DatabaseProblem, DBAPIError):
            # Of some tenant's, or everybody's trouble: a table that is locked is raised here.
            async with self._database.platform_session("look whether tables are locked") as session:
                await queue.require_tables(session)
            for tenant in list(waiting):
                try:
                    await self._write_all(waiting[tenant])
                except DatabaseUnreachable:
                    raise
                except (DatabaseProblem, DBAPIError) as error:
                    self._set_apart(tenant, waiting[tenant], error)
                del waiting[tenant]
        else:
            waiting.clear()

    def _set_apart(self, tenant: str, unwritten: _Waiting, error: Exception) -> None:
        log.warning(
            "relay.marks_apart", extra={"tenant_id": tenant, "error_type": type(error).__name__}
        )
        unwritten.add(self._waiting.pop(tenant, _Waiting()))
        apart = self._apart[tenant] = _Apart(unwritten)
        apart.put_off()
        self._apart_changed.set()

    async def _write_apart(self) -> None:
        """Writes the marks of those who are apart, one tenant after the other."""
        while True:
            self._apart_changed.clear()
            for tenant, each in list(self._apart.items()):
                if each.waiting and each.due <= time.monotonic():
                    await self._try(each)
                if not each.waiting and each.until <= time.monotonic():
                    del self._apart[tenant]
            due = [each.due for each in self._apart.values() if each.waiting]
            pause = min(due) - time.monotonic() if due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._apart_changed.wait()
            await asyncio.sleep(GATHER_SECONDS)

    async def _try(self, apart: _Apart) -> None:
        waiting = apart.tried = apart.waiting
        apart.waiting = _Waiting()
        try:
            await self._write_all(waiting)
        except BaseException as error:
            apart.put_back(waiting)
            if not isinstance(error, DatabaseProblem | DBAPIError):
                raise
            apart.put_off()
        else:
            apart.failed = 0
        finally:
            apart.tried = _Waiting()

    async def _write_all(self, waiting: _Waiting) -> None:
        async with self._database.platform_session(
            "mark messages", lock_timeout=LOCK_WAIT
        ) as session:
            await queue.RELAY.write(session, waiting, Source.RELAY)
            await queue.release(session, waiting.released)
            await queue.free_slots(session, waiting.free)
        for one in waiting.failed:
            log.warning(
                "message.dead" if one.is_dead else "message.failed",
                extra={
                    "tenant_id": one.message.tenant_id,
                    "job": one.message.job,
                    "message_id": str(one.message.id),
                    "attempt": one.message.attempts,
                    "error_type": one.error_type,
                    "error": one.error_message,
                },
            )

    def _put_back(self, unwritten: Mapping[str, _Waiting]) -> None:
        if self._finishing:
            return  # they are found after their lease
        for tenant, earlier in unwritten.items():
            earlier.add(self._waiting.pop(tenant, _Waiting()))
            self._waiting[tenant] = earlier
        self._changed.set()


def _slot_of(unit: Unit) -> _Waiting:
    return _Waiting(free=[(unit.tenant_id, unit.workflow_id)] if unit.holds_slot else [])
