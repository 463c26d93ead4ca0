"""Marks: the outcomes of messages, and the SQL that writes them.

A relay writes marks, and so does a workflow that handles several messages. They use different roles
(the relay's, the tenant's) and different conditions for a message to be still theirs: a `Holder`
holds the condition.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.failures import storable
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.payloads import NotReadable, read
from temporal_tenancy.core.redaction import is_for_people, words_of
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.outbox.relay.messages import Failed, Message
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.outbox.transitions import COMPLETED, FAILED
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.sdk.taken_ids import KeyReused

log: Final = logging.getLogger(__name__)


@dataclass
class Marks:
    """Outcomes of messages that are not written yet."""

    completed: list[Message] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __len__(self) -> int:
        """The number of messages that have a mark."""
        return len(self.completed) + len(self.failed)

    def add(self, later: Self) -> None:
        """Appends later marks to these."""
        self.completed += later.completed
        self.failed += later.failed


def failed(message: Message, error: Exception, ladder: RetryLadder) -> Failed:
    """Returns the mark of a failed attempt: its error, and the wait until the next attempt.

    No attempt follows the last one of the `ladder`, or a non-retryable error. The error's own
    `next_retry_delay` takes precedence over the ladder's wait.
    """
    known = error if isinstance(error, ApplicationError) else None
    wait = ladder.wait_after(message.attempts)
    if known is not None and known.non_retryable:
        wait = None
    elif wait is not None and known is not None and known.next_retry_delay is not None:
        wait = known.next_retry_delay
    kind = (known.type if known else None) or type(error).__name__ or "Error"
    # Other messages' marks are written with this one, so the database must accept any exception.
    return Failed(
        message,
        storable(kind),
        storable(words_of(error, [_values(message)])),
        wait,
        reuses_key=isinstance(error, KeyReused),
        is_told=is_for_people(error),
    )


def _values(message: Message) -> Any:  # JSON
    try:
        return read(message.payload)
    except NotReadable:
        return message.payload


@dataclass(frozen=True)
class Holder:
    """A relay or a workflow that holds messages, and marks them while they are still its own."""

    completing: TextClause  # from `completing()`
    failing: TextClause  # from `failing()`
    values: Mapping[str, object] = field(default_factory=dict)  # parameters of its conditions

    async def complete(self, session: AsyncSession, messages: Sequence[Message]) -> None:
        """Marks messages as completed: their workflow has started, or their work is done."""
        if messages:
            await session.execute(self.completing, {**named(messages), **self.values})

    async def fail(self, session: AsyncSession, failed: Sequence[Failed]) -> list[Failed]:
        """Marks attempts as failed; returns those whose messages this call made dead letters."""
        if not failed:
            return []
        values = {
            **named([failure.message for failure in failed]),
            "waits": [failure.wait for failure in failed],
            "error_types": [failure.error_type for failure in failed],
            "error_messages": [failure.error_message for failure in failed],
            "attempts": [failure.message.attempts for failure in failed],
            **self.values,
        }
        marked = {(row.tenant_id, row.id) for row in await session.execute(self.failing, values)}
        return [
            failure
            for failure in failed
            if failure.is_dead and (failure.message.tenant_id, failure.message.id) in marked
        ]

    async def write(self, session: AsyncSession, marks: Marks, source: Source) -> None:
        """Writes marks; messages that failed permanently become dead letters of `source`."""
        await self.complete(session, marks.completed)
        dead = await self.fail(session, marks.failed)
        await put_letters(session, list(_letters_of(dead, source)))


def completing(is_own: str) -> TextClause:
    """Returns the SQL that completes the messages of `:tenants` and `:ids`.

    `is_own` is a condition on `m`, the message: whether it still belongs to the holder, and is in
    work.
    """
    return library_text(f"""
        update tenancy.outbox_messages as m
        set {COMPLETED}
        from unnest(cast(:tenants as text[]), cast(:ids as uuid[])) as marked (tenant_id, id)
        where m.tenant_id = marked.tenant_id and m.id = marked.id
            and {is_own}
    """)


def failing(is_own: str) -> TextClause:
    """Returns the SQL that marks messages as failed, and returns the tenant and id of each.

    `is_own` is a condition on `m`, the message, and `failed`, its mark: whether the message still
    belongs to the holder, and is in work.
    """
    return library_text(f"""
        update tenancy.outbox_messages as m
        set {FAILED}
        from unnest(
            cast(:tenants as text[]), cast(:ids as uuid[]), cast(:waits as interval[]),
            cast(:error_types as text[]), cast(:error_messages as text[]), cast(:attempts as int[])
        ) as failed (tenant_id, id, wait, error_type, error_message, attempts)
        where m.tenant_id = failed.tenant_id and m.id = failed.id
            and {is_own}
        returning m.tenant_id, m.id
    """)


def named(messages: Sequence[Message]) -> dict[str, object]:
    """Returns the parameters `tenants` and `ids` of a statement about `messages`."""
    return {
        "tenants": [message.tenant_id for message in messages],
        "ids": [message.id for message in messages],
    }


def _letters_of(dead: Iterable[Failed], source: Source) -> Iterator[Letter]:
    for failure in dead:
        message = failure.message
        if message.tenant_id == PLATFORM:
            continue  # a probe, which its doctor follows
        try:
            yield Letter(
                workflow_id=failure.letter_id,
                source=source,
                error_type=failure.error_type,
                message=failure.error_message,
                attempts=message.attempts,
                message_id=message.id,
            )
        except TenancyError as error:
            # The row's tenant id is invalid, so no tenant could own the letter. The message stays
            # in the outbox with its error.
            log.error(
                "message.nobodys", extra={"message_id": str(message.id), "error": error.sentence}
            )
