"""Writes a relay's marks in batches, in the background.

A tenant whose rows are locked is quarantined: its marks are retried later and separately, while
those of other tenants are written without delay.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.outbox.relay.store_outbox import Messages
from temporal_tenancy.postgres.control_session import control_session
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable

# How long marks wait for others, so that many share a transaction. A relay that starts as fast as
# Temporal lets it spends a tenth less of its processor time with 0.1 than with 0.02.
GATHER_SECONDS: Final = 0.1
AGAIN_AFTER: Final = 0.5  # seconds before a retry while the database is unreachable
LOCK_WAIT: Final = timedelta(milliseconds=50)  # for a row that its tenant may have locked
# Likewise, tenant by tenant, once all of them together have waited: those after it wait as well.
ALONE_WAIT: Final = timedelta(milliseconds=10)
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between retries; the last repeats
QUARANTINE_SECONDS: Final = 60.0  # after the last failed try
FINISH_SECONDS: Final = 5.0  # during which last tries of quarantined tenants begin

log: Final = logging.getLogger(__name__)


@dataclass
class RelayMarks(Marks):
    """A relay's marks, which also release messages and free slots."""

    released: list[Message] = field(default_factory=list)
    free: list[tuple[str, str]] = field(default_factory=list)  # slots, by tenant and workflow id

    def __bool__(self) -> bool:
        return super().__bool__() or len(self.free) > 0

    def __len__(self) -> int:
        return super().__len__() + len(self.released)

    def add(self, later: Self) -> None:
        super().add(later)
        self.released += later.released
        self.free += later.free


@dataclass
class _Quarantined:
    """A tenant whose marks are written separately for a while."""

    pending: RelayMarks = field(default_factory=RelayMarks)
    writing: RelayMarks = field(default_factory=RelayMarks)  # in the try that runs now
    failures: int = 0  # failed tries in a row
    due: float = 0.0  # the next try, on the monotonic clock
    until: float = 0.0  # the end of the quarantine, on the monotonic clock

    def put_back(self, unwritten: RelayMarks) -> None:
        """Puts unwritten marks back, before those that were added since."""
        unwritten.add(self.pending)
        self.pending = unwritten

    def put_off(self) -> None:
        """Delays the next try after a failed one, for longer each time."""
        self.due = time.monotonic() + PAUSES[min(self.failures, len(PAUSES) - 1)]
        self.until = self.due + QUARANTINE_SECONDS
        self.failures += 1


class RelayMarking(ABC):
    """What a relay says of the units that it has claimed."""

    def started(self, unit: Unit, *, frees_slot: bool = False) -> None:
        """Marks a unit as started; a workflow of several messages marks its messages itself."""
        if not unit.coalesced:
            self._add(unit.tenant_id, RelayMarks(completed=list(unit.messages)))
        if frees_slot:
            self._add(unit.tenant_id, _slot_of(unit))

    def released(self, unit: Unit) -> None:
        """Releases the messages of a unit that the relay did not try to start."""
        self._add(unit.tenant_id, RelayMarks(released=list(unit.messages)))
        self._add(unit.tenant_id, _slot_of(unit))

    def not_started(self, unit: Unit, failed: Sequence[Failed]) -> None:
        """Marks an attempt to start a unit as failed, and frees the unit's slot."""
        self.failed(failed)
        self._add(unit.tenant_id, _slot_of(unit))

    def failed(self, failed: Sequence[Failed]) -> None:
        """Marks messages as failed that cannot be started at all."""
        for failure in failed:
            self._add(failure.message.tenant_id, RelayMarks(failed=[failure]))

    @abstractmethod
    async def written(self) -> None:
        """Waits until every earlier mark has been written, or tried and put back."""

    @abstractmethod
    def _add(self, tenant: str, marks: RelayMarks) -> None:
        """Adds marks of a tenant's messages to those that are to be written."""


class MarkWriter(RelayMarking):
    """Collects marks, and writes them in the order in which they were made.

    If the process dies before it writes a mark, a relay finds the message after its lease. A
    message that was started is then started again under the same id, which is the same workflow.
    """

    def __init__(self, database: Messages) -> None:
        self._database = database
        self._pending: defaultdict[str, RelayMarks] = defaultdict(RelayMarks)  # by tenant
        self._writing: dict[str, RelayMarks] = {}  # in the transaction that runs now, by tenant
        self._quarantined: dict[str, _Quarantined] = {}  # by tenant
        self._changed = asyncio.Event()
        self._awaited = asyncio.Event()  # somebody waits for what is gathered
        self._quarantine_changed = asyncio.Event()
        self._tried = asyncio.Condition()
        self._tries = 0
        self._finishing = False
        self._is_writing = False

    def unwritten(self, tenant: str) -> int:
        """Returns how many of a tenant's messages have unwritten marks, quarantined or not."""
        entry = self._quarantined.get(tenant)
        quarantined = 0 if entry is None else len(entry.pending) + len(entry.writing)
        return self.gathered(tenant) + quarantined

    def gathered(self, tenant: str) -> int:
        """Returns how many of them have marks that are written together with other tenants'."""
        return sum(
            len(marks[tenant]) for marks in (self._pending, self._writing) if tenant in marks
        )

    def finish(self) -> None:
        """Tells `run()` to write the remaining marks and return; locked rows keep their lease."""
        self._finishing = True
        self._changed.set()
        self._awaited.set()
        self._quarantine_changed.set()

    async def written(self) -> None:
        """Waits until every earlier mark has been written, or tried and put back."""
        enough = self._tries + 1 + self._is_writing
        async with self._tried:
            while (self._pending or self._is_writing) and self._tries < enough:
                if self._pending:  # what is being written must not hurry what comes after it
                    self._awaited.set()
                await self._tried.wait()

    async def run(self) -> None:
        """Writes marks until `finish()`."""
        quarantine = asyncio.create_task(self._write_quarantined())
        quarantine.add_done_callback(lambda _: self._changed.set())
        try:
            while not self._finishing or self._pending:
                await self._changed.wait()
                if quarantine.done() and not self._finishing:
                    quarantine.result()
                if not self._finishing:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(GATHER_SECONDS):
                            await self._awaited.wait()
                self._changed.clear()
                self._awaited.clear()
                await self._write()
            await quarantine  # it ends after the try that runs now
        finally:
            await end_tasks(quarantine)
        ends = time.monotonic() + FINISH_SECONDS
        for entry in self._quarantined.values():
            if entry.pending and time.monotonic() < ends:
                await self._try(entry)

    def _add(self, tenant: str, marks: RelayMarks) -> None:
        if not marks:
            return
        entry = self._quarantined.get(tenant)
        if entry is None:
            self._pending[tenant].add(marks)
            self._changed.set()
        else:
            entry.pending.add(marks)
            self._quarantine_changed.set()

    async def _write(self) -> None:
        unwritten = self._writing = self._pending
        self._pending = defaultdict(RelayMarks)
        self._is_writing = True
        try:
            await self._write_together(unwritten)
        except (DatabaseProblem, DBAPIError) as error:
            log.warning("relay.marks_unwritten", extra={"error_type": type(error).__name__})
            self._put_back(unwritten)
        finally:
            self._writing = {}
            self._is_writing = False
            self._tries += 1
            async with self._tried:
                self._tried.notify_all()
        if unwritten and not self._finishing:
            await asyncio.sleep(AGAIN_AFTER)

    async def _write_together(self, unwritten: dict[str, RelayMarks]) -> None:
        """Writes marks in one transaction or, if that fails, one transaction for each tenant.

        Removes what it has written from `unwritten`. Raises if the failure is not one tenant's.
        """
        together = RelayMarks()
        for marks in unwritten.values():
            together.add(marks)
        try:
            await self._write_all(together)
        except DatabaseUnreachable:
            raise
        except (DatabaseProblem, DBAPIError):
            # One tenant's rows are the cause, or a locked table, which stops everyone and raises.
            async with self._database.platform_session("check for locked tables") as session:
                await queue.require_tables(session)
            for tenant in list(unwritten):
                try:
                    await self._write_all(unwritten[tenant], lock_wait=ALONE_WAIT)
                except DatabaseUnreachable:
                    raise
                except (DatabaseProblem, DBAPIError) as error:
                    self._quarantine(tenant, unwritten[tenant], error)
                del unwritten[tenant]
        else:
            unwritten.clear()

    def _quarantine(self, tenant: str, unwritten: RelayMarks, error: Exception) -> None:
        log.warning(
            "relay.marks_apart", extra={"tenant_id": tenant, "error_type": type(error).__name__}
        )
        unwritten.add(self._pending.pop(tenant, RelayMarks()))
        entry = self._quarantined[tenant] = _Quarantined(unwritten)
        entry.put_off()
        self._quarantine_changed.set()

    async def _write_quarantined(self) -> None:
        """Writes the marks of quarantined tenants, one tenant after another."""
        while not self._finishing:
            self._quarantine_changed.clear()
            for tenant, entry in list(self._quarantined.items()):
                if self._finishing:
                    return
                if entry.pending and entry.due <= time.monotonic():
                    await self._try(entry)
                if not entry.pending and entry.until <= time.monotonic():
                    del self._quarantined[tenant]
            due = [entry.due for entry in self._quarantined.values() if entry.pending]
            pause = min(due) - time.monotonic() if due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._quarantine_changed.wait()
            await asyncio.sleep(GATHER_SECONDS)

    async def _try(self, entry: _Quarantined) -> None:
        marks = entry.writing = entry.pending
        entry.pending = RelayMarks()
        try:
            await self._write_all(marks)
        except BaseException as error:
            entry.put_back(marks)
            if not isinstance(error, DatabaseProblem | DBAPIError):
                raise
            entry.put_off()
        else:
            entry.failures = 0
        finally:
            entry.writing = RelayMarks()

    async def _write_all(self, marks: RelayMarks, *, lock_wait: timedelta | None = None) -> None:
        await write_marks(self._database, marks, lock_wait=lock_wait or LOCK_WAIT)

    def _put_back(self, unwritten: Mapping[str, RelayMarks]) -> None:
        if self._finishing:
            return  # a relay finds the messages after their lease
        for tenant, earlier in unwritten.items():
            earlier.add(self._pending.pop(tenant, RelayMarks()))
            self._pending[tenant] = earlier
        self._changed.set()


async def write_marks(database: Messages, marks: RelayMarks, *, lock_wait: timedelta) -> None:
    """Writes marks in one transaction, and logs the failed attempts.

    Where the control plane is another database, dead letters and slots are committed there first.
    """
    async with database.platform_session("mark messages", lock_timeout=lock_wait) as session:
        await queue.RELAY.write(session, marks, Source.RELAY)
        await queue.release(session, marks.released)
        if marks.free:
            owners = {tenant for tenant, _ in marks.free}
            async with control_session(session, "free slots", owners=owners) as control:
                await queue.free_slots(control, marks.free)
    for failure in marks.failed:
        log.warning(
            "message.dead" if failure.is_dead else "message.failed",
            extra={
                "tenant_id": failure.message.tenant_id,
                "job": failure.message.job,
                "message_id": str(failure.message.id),
                "attempt": failure.message.attempts,
                "error_type": failure.error_type,
                **({"error": failure.error_message} if failure.is_told else {}),
            },
        )


def _slot_of(unit: Unit) -> RelayMarks:
    return RelayMarks(free=[(unit.tenant_id, unit.workflow_id)] if unit.holds_slot else [])
