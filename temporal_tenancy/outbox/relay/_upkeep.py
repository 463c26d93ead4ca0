"""A relay's background duties: recovering lost messages, freeing slots, deleting old messages."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters.payload_texts import Key
from temporal_tenancy.dead_letters.recording import Source
from temporal_tenancy.outbox.marks import Marks, failed
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay._mark_writer import LOCK_WAIT
from temporal_tenancy.outbox.relay.messages import Failed, Message
from temporal_tenancy.outbox.relay.options import RelayOptions
from temporal_tenancy.outbox.relay.starting import run_of_message
from temporal_tenancy.outbox.relay.store_outbox import Messages
from temporal_tenancy.outbox.work_off import work_off_job
from temporal_tenancy.postgres.database_errors import LockHeld, StatementTimeout
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import KeyReused, disagreement

SLOTS_AT_ONCE: Final = 100
LOST_AT_ONCE: Final = 10  # lost messages of one tenant per page
RPC_TIMEOUT: Final = timedelta(seconds=5)

log: Final = logging.getLogger(__name__)


class _State(Enum):
    """The state of a workflow."""

    RUNNING = auto()
    ENDED = auto()
    UNKNOWN = auto()  # never started, forgotten, or its id belongs to something else


class Upkeep:
    """Finds messages, slots and rows that no one else will handle."""

    def __init__(self, client: Client, database: Messages, options: RelayOptions) -> None:
        self._client = client
        self._database = database
        self._options = options

    async def lost(self, is_behind: Callable[[str], bool]) -> AsyncGenerator[Message]:
        """Yields lost messages, whose leases expired before they were marked, to start them again.

        Tenants take turns, with a few messages of each per page, until no lost message can be
        claimed. Skips tenants that are `is_behind`. If a workflow handles the message, checks on
        the workflow instead. Messages without attempts left become dead letters, because their
        holder died each time, unless their workflow was started.
        """
        after, claimed_any = None, False
        while True:
            page, after = await self._look_for_lost(after)
            for key in _in_turn(page):
                if is_behind(key[0]):
                    continue
                message = await self._take_lost(key)
                if message is None:
                    continue
                claimed_any = True
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
                except (LockHeld, StatementTimeout):  # its new lease will expire, then it is found
                    log.warning("message.locked", extra={"tenant_id": message.tenant_id})
                except RPCError as error:  # the same holds if the server did not answer
                    log.warning("message.not_asked_after", extra={"error_type": error.status.name})
            if after is None:
                if not claimed_any:
                    return
                claimed_any = False  # start over, as more messages may be lost by now

    async def _look_for_lost(self, after: str | None) -> tuple[list[Key], str | None]:
        async with self._database.platform_session("look for lost messages") as session:
            return await queue.lost(session, rows=self._options.lost_page, after=after)

    async def _take_lost(self, key: Key) -> Message | None:
        async with self._database.platform_session("take a lost message") as session:
            return await queue.take_lost(session, key, lease=self._options.lease)

    async def free_ended_slots(self) -> int:
        """Frees the slots of workflows that ended without freeing them; returns how many."""
        async with self._database.platform_session("look for ended workflows") as session:
            slots = await queue.slots_to_check(
                session, age=self._options.slot_unseen, limit=SLOTS_AT_ONCE
            )
        are_free = await asyncio.gather(*(self.frees(workflow_id) for _, workflow_id in slots))
        ended = [slot for slot, is_free in zip(slots, are_free, strict=True) if is_free]
        if ended:
            async with self._database.platform_session("free slots") as session:
                await queue.free_slots(session, ended)
            log.info("relay.slots_freed", extra={"slots": len(ended)})
        return len(ended)

    async def prune(self) -> None:
        """Deletes messages that completed more than `keep_completed` ago."""
        keep = self._options.keep_completed
        deleted = queue.PRUNE_ROWS
        while deleted == queue.PRUNE_ROWS:
            async with self._database.platform_session("prune the outbox") as session:
                deleted = await queue.prune(session, keep=keep)

    async def frees(self, workflow_id: str) -> bool:
        """Whether a workflow has ended or was never started, so that its slot is free."""
        return await self._state_of(workflow_id) in (_State.ENDED, _State.UNKNOWN)

    async def _deal_with(self, message: Message) -> None:
        """Checks on the workflow that handles a lost message, or marks a message that has none."""
        if message.workflow_id is not None:
            await self._check_workflow(message, message.workflow_id)
            return
        try:
            was_started = await self._was_started(message)
        except KeyReused as error:
            await self._mark(Marks(failed=[failed(message, error, self._options.ladder)]))
            return
        async with self._database.platform_session(
            "mark a lost message", lock_timeout=LOCK_WAIT
        ) as session:
            if was_started:  # only its mark was lost, because the tenant kept the row locked
                await queue.RELAY.complete(session, [message])
                return
            error_message = f"the relay died {number(message.attempts - 1, 'time')} handling it."
            await self._fail(session, [message], "RelayLost", error_message)

    async def _was_started(self, message: Message) -> bool:
        """Whether the message's own workflow exists, which a start would find as already started.

        Raises `KeyReused` if it is the run of another request, and `RPCError` if the server does
        not answer.
        """
        job = registry.get(message.job)
        if job is None or job.coalesce is not None:
            return False  # no workflow handles it alone
        try:
            run = await if_known(run_of_message(self._client, message))
        except (KeyReused, RPCError):
            raise
        except Exception:  # it cannot be read, or its id is invalid or belongs to something else
            return False
        return run is not None

    async def _mark(self, marks: Marks) -> None:
        async with self._database.platform_session(
            "mark a lost message", lock_timeout=LOCK_WAIT
        ) as session:
            await queue.RELAY.write(session, marks, Source.RELAY)

    async def _check_workflow(self, message: Message, workflow_id: str) -> None:
        if not _is_of_its_tenant(workflow_id, message):
            # No relay wrote this id, so no workflow handles the message.
            async with self._database.platform_session(
                "give a message back", lock_timeout=LOCK_WAIT
            ) as session:
                error_message = "its workflow id does not belong to its tenant."
                await queue.give_back(
                    session, [message], error_type="RelayLost", error_message=error_message
                )
            return
        state = await self._state_of(workflow_id)
        async with self._database.platform_session(
            "check on a workflow's messages", lock_timeout=LOCK_WAIT
        ) as session:
            if state in (_State.RUNNING, None):
                await queue.extend(session, message, lease=self._options.worked_off)
                return
            messages = await queue.together_with(session, message)
            if state is _State.UNKNOWN:
                # The relay died before it started the workflow: the messages can be claimed again.
                error_message = f'"{workflow_id}" was never started.'
                await queue.give_back(
                    session, messages, error_type="RelayLost", error_message=error_message
                )
                return
            error_message = f'"{workflow_id}" ended without handling it.'
            await self._fail(session, messages, "WorkflowLost", error_message)

    async def _fail(
        self,
        session: AsyncSession,
        messages: Sequence[Message],
        error_type: str,
        error_message: str,
    ) -> None:
        failed = [
            Failed(
                message,
                error_type,
                error_message,
                self._options.ladder.wait_after(message.attempts),
            )
            for message in messages
        ]
        alone = all(message.workflow_id is None for message in messages)
        source = Source.RELAY if alone else Source.MESSAGE
        await queue.RELAY.write(session, Marks(failed=failed), source)

    async def _state_of(self, workflow_id: str) -> _State | None:
        """Returns the state of a workflow, or None if the server does not answer."""
        try:
            own_types = WorkflowId.parse(workflow_id).job, work_off_job().name
            handle = self._client.get_workflow_handle(workflow_id)
            found = await if_known(handle.describe(rpc_timeout=RPC_TIMEOUT))
        except TenancyError:  # written by the tenant's role, and not a workflow id
            return _State.UNKNOWN
        except RPCError:
            return None
        if found is None or disagreement(found, *own_types) is not None:
            return _State.UNKNOWN
        running = found.status is WorkflowExecutionStatus.RUNNING
        return _State.RUNNING if running else _State.ENDED


def _in_turn(keys: Sequence[Key]) -> list[Key]:
    """Returns up to `LOST_AT_ONCE` keys of each tenant in order, with tenants taking turns."""
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
