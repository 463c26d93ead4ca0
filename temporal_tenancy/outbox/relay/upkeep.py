"""What a relay looks after beside releasing messages: what others lost, and what is done with."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.dead_letters.payload_texts import Key
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay.marks import LOCK_WAIT
from temporal_tenancy.outbox.relay.messages import Failed, Message
from temporal_tenancy.outbox.relay.options import RelayOptions
from temporal_tenancy.outbox.work_off import work_off_job
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import LockHeld, StatementTimeout
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import disagreement, own_run

SLOTS_AT_ONCE: Final = 100
LOST_AT_ONCE: Final = 10  # lost messages of a tenant in a round
RPC_TIMEOUT: Final = timedelta(seconds=5)

log: Final = logging.getLogger(__name__)


class _State(Enum):
    """What has become of a workflow."""

    RUNNING = auto()
    ENDED = auto()
    UNKNOWN = auto()  # it was never started, or forgotten, or something else has its id


class Upkeep:
    """Finds messages, slots and rows that nobody else will deal with."""

    def __init__(self, client: Client, database: Database, options: RelayOptions) -> None:
        self._client = client
        self._database = database
        self._options = options

    async def lost(self, is_behind: Callable[[str], bool]) -> AsyncIterator[Message]:
        """Yields messages that somebody had and lost, one at a time, to be started.

        Tenants take turns, some messages of each in a round, until nothing is lost that can be
        taken. Those of a tenant that `is_behind` wait. Those that a workflow works off are asked
        after. Those that have run out of attempts are dead letters: whoever had them died each
        time.
        """
        after, took = None, False
        while True:
            page, after = await self._look_for_lost(after)
            for key in _in_turn(page):
                if is_behind(key[0]):
                    continue
                message = await self._take_lost(key)
                if message is None:
                    continue
                took = True
                if (
                    message.workflow_id is None
                    and message.attempts <= self._options.ladder.attempts
                ):
                    log.info(
                        "message.lost",
                        extra={"tenant_id": message.tenant_id, "message_id": str(message.id)},
                    )
                    yield message
                    continue
                try:
                    await self._deal_with(message)
                except (LockHeld, StatementTimeout):  # it has a lease again, and is found after it
                    log.warning("message.locked", extra={"tenant_id": message.tenant_id})
                except RPCError as error:  # so is what the server did not tell of
                    log.warning("message.not_asked_after", extra={"error_type": error.status.name})
            if after is None:
                if not took:
                    return
                took = False  # once more from the beginning, where others may be by now

    async def _look_for_lost(self, after: str | None) -> tuple[list[Key], str | None]:
        async with self._database.platform_session("look for lost messages") as session:
            return await queue.lost(session, rows=self._options.lost_page, after=after)

    async def _take_lost(self, key: Key) -> Message | None:
        async with self._database.platform_session("take a lost message") as session:
            return await queue.take_lost(session, key, lease=self._options.lease)

    async def free_ended_slots(self) -> int:
        """Frees slots whose workflow has ended without saying so; returns how many."""
        async with self._database.platform_session("look for ended workflows") as session:
            held = await queue.slots_to_check(
                session, age=self._options.slot_unseen, limit=SLOTS_AT_ONCE
            )
        over = await asyncio.gather(*(self.frees(workflow_id) for _, workflow_id in held))
        ended = [slot for slot, is_over in zip(held, over, strict=True) if is_over]
        if ended:
            async with self._database.platform_session("free slots") as session:
                await queue.free_slots(session, ended)
            log.info("relay.slots_freed", extra={"slots": len(ended)})
        return len(ended)

    async def prune(self) -> None:
        """Deletes what was completed long enough ago."""
        keep = self._options.keep_completed
        deleted = queue.PRUNE_ROWS
        while deleted == queue.PRUNE_ROWS:
            async with self._database.platform_session("prune the outbox") as session:
                deleted = await queue.prune(session, keep=keep)

    async def frees(self, workflow_id: str) -> bool:
        """Whether a workflow has ended, so that its slot is free."""
        return await self._state_of(workflow_id) in (_State.ENDED, _State.UNKNOWN)

    async def _deal_with(self, message: Message) -> None:
        """Asks after the workflow that has a lost message, or gives up the message."""
        if message.workflow_id is not None:
            await self._ask_after(message, message.workflow_id)
            return
        was_started = await self._was_started(message)
        async with self._database.platform_session(
            "mark a lost message", lock_timeout=LOCK_WAIT
        ) as session:
            if was_started:  # its marks alone were lost: what its tenant had locked again and again
                await queue.RELAY.complete(session, [message])
                return
            said = f"the relay died {message.attempts - 1} times at it."
            await self._fail(session, [message], "RelayLost", said)

    async def _was_started(self, message: Message) -> bool:
        """Whether its own workflow is there, which a start would take for this message's.

        Raises `RPCError` where the server does not say.
        """
        job = registry.get(message.job)
        if job is None or job.coalesce is not None:
            return False  # it has no workflow of its own
        try:
            run = await if_known(own_run(self._client, str(message.own_id), job.name))
        except TenancyError:  # it can have no workflow, or something else has taken the id
            return False
        return run is not None

    async def _ask_after(self, message: Message, workflow_id: str) -> None:
        if not _is_of_its_tenant(workflow_id, message):
            # No relay has written that: nobody works it off.
            async with self._database.platform_session(
                "give a message back", lock_timeout=LOCK_WAIT
            ) as session:
                said = "what it names as its workflow is none of its tenant's."
                await queue.give_back(
                    session, [message], error_type="RelayLost", error_message=said
                )
            return
        state = await self._state_of(workflow_id)
        async with self._database.platform_session(
            "look after a workflow's messages", lock_timeout=LOCK_WAIT
        ) as session:
            if state in (_State.RUNNING, None):
                await queue.extend(session, message, lease=self._options.worked_off)
                return
            messages = await queue.together_with(session, message)
            if state is _State.UNKNOWN:
                # Whoever was to start it died before: they are claimed again at once.
                said = f'"{workflow_id}" was never started.'
                await queue.give_back(session, messages, error_type="RelayLost", error_message=said)
                return
            said = f'"{workflow_id}" ended without having dealt with it.'
            await self._fail(session, messages, "WorkflowLost", said)

    async def _fail(
        self, session: AsyncSession, messages: Sequence[Message], error_type: str, said: str
    ) -> None:
        wait_after = self._options.ladder.wait_after
        failed = [Failed(each, error_type, said, wait_after(each.attempts)) for each in messages]
        alone = all(each.workflow_id is None for each in messages)
        source = Source.RELAY if alone else Source.MESSAGE
        await queue.RELAY.write(session, Marks(failed=failed), source)

    async def _state_of(self, workflow_id: str) -> _State | None:
        """What has become of a workflow; None where the server does not say."""
        try:
            own_types = WorkflowId.parse(workflow_id).job, work_off_job().name
            handle = self._client.get_workflow_handle(workflow_id)
            found = await if_known(handle.describe(rpc_timeout=RPC_TIMEOUT))
        except TenancyError:  # a tenant's own words, which can be no workflow's id
            return _State.UNKNOWN
        except RPCError:
            return None
        if found is None or disagreement(found, *own_types) is not None:
            return _State.UNKNOWN
        running = found.status is WorkflowExecutionStatus.RUNNING
        return _State.RUNNING if running else _State.ENDED


def _in_turn(keys: Sequence[Key]) -> list[Key]:
    """One message of each tenant after the other, some of each at most, in their order."""
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, Key]] = []
    for key in keys:
        if turns[key[0]] < LOST_AT_ONCE:
            ranked.append((turns[key[0]], key))
            turns[key[0]] += 1
    return [key for _, key in sorted(ranked, key=lambda item: item[0])]


def _is_of_its_tenant(workflow_id: str, message: Message) -> bool:
    try:
        return WorkflowId.parse(workflow_id).owner == message.tenant_id
    except TenancyError:
        return False
