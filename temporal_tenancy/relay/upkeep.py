"""What a relay looks after beside releasing messages: what others lost, and what is done with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.database import Database
from temporal_tenancy.dead_letters.recording import Source, put_letters
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.relay import queue
from temporal_tenancy.relay.marks import letters_of
from temporal_tenancy.relay.messages import Failed, Message

WORKED_OFF_FOR: Final = timedelta(minutes=5)  # before a workflow of several messages is asked after
SLOT_UNSEEN_FOR: Final = timedelta(minutes=1)  # before it is asked whether its workflow runs
SLOTS_AT_ONCE: Final = 100
RPC_TIMEOUT: Final = timedelta(seconds=5)

log: Final = structlog.get_logger(__name__)


class Upkeep:
    """Finds messages, slots and rows that nobody else will deal with."""

    def __init__(
        self, client: Client, database: Database, ladder: RetryLadder, lease: timedelta
    ) -> None:
        self._client = client
        self._database = database
        self._ladder = ladder
        self._lease = lease

    async def lost(self) -> AsyncIterator[Message]:
        """Yields messages that somebody had and lost, one at a time, to be started.

        Those that a workflow works off are asked after. Those that have run out of attempts are
        dead letters: whoever had them died each time.
        """
        while True:
            async with self._database.platform_session("look for lost messages") as session:
                message = await queue.take_lost(session, lease=self._lease)
            if message is None:
                return
            if message.workflow_id is not None:
                await self._ask_after(message, message.workflow_id)
            elif message.attempts > self._ladder.attempts:
                times = message.attempts - 1
                await self._fail(message, "RelayLost", f"the relay died {times} times at it.")
            else:
                log.info("message.lost", tenant_id=message.tenant_id, message_id=str(message.id))
                yield message

    async def free_ended_slots(self) -> int:
        """Frees slots whose workflow has ended without saying so; returns how many."""
        async with self._database.platform_session("look for ended workflows") as session:
            held = await queue.slots_to_check(session, age=SLOT_UNSEEN_FOR, limit=SLOTS_AT_ONCE)
        running = await asyncio.gather(*(self._runs(workflow_id) for _, workflow_id in held))
        ended = [slot for slot, runs in zip(held, running, strict=True) if runs is False]
        if ended:
            async with self._database.platform_session("free slots") as session:
                await queue.free_slots(session, ended)
            log.info("relay.slots_freed", slots=len(ended))
        return len(ended)

    async def prune(self, keep: timedelta) -> None:
        """Deletes what was completed longer ago than `keep`."""
        deleted = queue.PRUNE_ROWS
        while deleted == queue.PRUNE_ROWS:
            async with self._database.platform_session("prune the outbox") as session:
                deleted = await queue.prune(session, keep=keep)

    async def _ask_after(self, message: Message, workflow_id: str) -> None:
        runs = await self._runs(workflow_id)
        if runs is False:
            said = f'"{workflow_id}" ended without having dealt with it.'
            await self._fail(message, "WorkflowLost", said)
            return
        async with self._database.platform_session("wait for a workflow") as session:
            await queue.extend(session, message, lease=WORKED_OFF_FOR)

    async def _fail(self, message: Message, error_type: str, said: str) -> None:
        failed = Failed(message, error_type, said)
        wait = self._ladder.wait_after(message.attempts)
        async with self._database.platform_session("mark a lost message") as session:
            dead = await queue.fail(session, [(failed, wait)])
            source = Source.RELAY if message.workflow_id is None else Source.MESSAGE
            await put_letters(session, list(letters_of(dead, source)))

    async def _runs(self, workflow_id: str) -> bool | None:
        """Whether a workflow runs; None where the server does not say."""
        try:
            handle = self._client.get_workflow_handle(workflow_id)
            found = await handle.describe(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            return False if error.status is RPCStatusCode.NOT_FOUND else None
        return found.status is WorkflowExecutionStatus.RUNNING
