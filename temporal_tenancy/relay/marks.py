"""What became of messages, written some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.database import Database
from temporal_tenancy.database_errors import DatabaseProblem
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.errors import TenancyError
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.relay import queue
from temporal_tenancy.relay.messages import Failed, Message, Unit

GATHER_SECONDS: Final = 0.02  # that marks wait for others, so that many are one transaction
AGAIN_AFTER: Final = 0.5  # seconds, when the database is away

log: Final = structlog.get_logger(__name__)


@dataclass
class _Waiting:
    completed: list[Message] = field(default_factory=list)
    released: list[Message] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    free: list[tuple[str, str]] = field(default_factory=list)  # slots, by tenant and workflow

    def __bool__(self) -> bool:
        return bool(self.completed or self.released or self.failed or self.free)


class Marks:
    """Gathers marks, and writes them in the order of time.

    What is not written when the process dies is found after its lease: a message that was started
    is started again under the same id, which is the same workflow.
    """

    def __init__(self, database: Database, ladder: RetryLadder) -> None:
        self._database = database
        self._ladder = ladder
        self._waiting = _Waiting()
        self._changed = asyncio.Event()
        self._written = asyncio.Condition()
        self._finishing = False
        self._writing = False

    def started(self, unit: Unit, *, frees_slot: bool = False) -> None:
        """The workflow is there. Messages that it works off stay in hand until it says more."""
        if not unit.coalesced:
            self._waiting.completed += unit.messages
            self._changed.set()
        if frees_slot:
            self._free(unit)

    def released(self, unit: Unit) -> None:
        """Nothing was tried."""
        self._waiting.released += unit.messages
        self._free(unit)

    def not_started(self, unit: Unit, failed: Sequence[Failed]) -> None:
        """The attempt has failed."""
        self._waiting.failed += failed
        self._free(unit)

    def failed(self, failed: Sequence[Failed]) -> None:
        """These cannot be started at all."""
        if failed:
            self._waiting.failed += failed
            self._changed.set()

    def finish(self) -> None:
        """Asks `run()` to write what is left and return."""
        self._finishing = True
        self._changed.set()

    async def written(self) -> None:
        """Waits until all that was marked before is written."""
        async with self._written:
            while self._waiting or self._writing:
                await self._written.wait()

    async def run(self) -> None:
        """Writes marks until `finish()`."""
        while not self._finishing or self._waiting:
            await self._changed.wait()
            if not self._finishing:
                await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            await self._write()

    def _free(self, unit: Unit) -> None:
        if unit.holds_slot:
            self._waiting.free.append((unit.tenant_id, unit.workflow_id))
        self._changed.set()

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting()
        self._writing = True
        try:
            await self._write_all(waiting)
        except (DatabaseProblem, DBAPIError) as error:
            log.warning("relay.marks_unwritten", error_type=type(error).__name__)
            if self._finishing:
                return  # they are found after their lease
            self._put_back(waiting)
            await asyncio.sleep(AGAIN_AFTER)
            return
        finally:
            self._writing = False
        async with self._written:
            self._written.notify_all()

    async def _write_all(self, waiting: _Waiting) -> None:
        failed = [(one, self._wait(one)) for one in waiting.failed]
        async with self._database.platform_session("mark messages") as session:
            await queue.complete(session, waiting.completed)
            await queue.release(session, waiting.released)
            dead = await queue.fail(session, failed)
            await put_letters(session, list(letters_of(dead, Source.RELAY)))
            await queue.free_slots(session, waiting.free)
        for one, wait in failed:
            log.warning(
                "message.failed" if wait else "message.dead",
                tenant_id=one.message.tenant_id,
                job=one.message.job,
                message_id=str(one.message.id),
                attempt=one.message.attempts,
                error_type=one.error_type,
                error=one.error_message,
            )

    def _wait(self, failed: Failed) -> timedelta | None:
        return None if failed.for_good else self._ladder.wait_after(failed.message.attempts)

    def _put_back(self, earlier: _Waiting) -> None:
        now = self._waiting
        self._waiting = _Waiting(
            completed=[*earlier.completed, *now.completed],
            released=[*earlier.released, *now.released],
            failed=[*earlier.failed, *now.failed],
            free=[*earlier.free, *now.free],
        )
        self._changed.set()


def letters_of(dead: Iterable[Failed], source: Source) -> Iterator[Letter]:
    """The dead letters of messages that have failed for good."""
    for failed in dead:
        message = failed.message
        try:
            yield Letter(
                workflow_id=message.letter_id,
                source=source,
                error_type=failed.error_type,
                message=failed.error_message,
                attempts=message.attempts,
                message_id=message.id,
            )
        except TenancyError as error:
            # The row's tenant cannot be one, so there is nobody whose letter it would be. The
            # message stays where it is, and so do its reasons.
            log.error("message.nobodys", message_id=str(message.id), error=error.sentence)
