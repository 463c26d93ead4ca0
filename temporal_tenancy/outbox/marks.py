"""What became of messages, and how it is written: by a relay, and by what works off several.

The two differ in who they are (the relay's role, the tenant's), and so in what makes a message
still theirs: that is a `Holder`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.failures import message_of, storable
from temporal_tenancy.dead_letters.recording import Letter, Source, put_letters
from temporal_tenancy.outbox.relay.messages import Failed, Message
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.outbox.transitions import COMPLETED, FAILED

log: Final = logging.getLogger(__name__)


@dataclass
class Marks:
    """What became of messages and is not written yet."""

    completed: list[Message] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __len__(self) -> int:
        """How many messages there are marks of."""
        return len(self.completed) + len(self.failed)

    def add(self, later: Self) -> None:
        """Puts what was marked later behind this."""
        self.completed += later.completed
        self.failed += later.failed


def failed(message: Message, error: Exception, ladder: RetryLadder) -> Failed:
    """What an attempt's `error` means for its message.

    There is no further attempt after the last of the `ladder`, and none after an error that is not
    retryable. One that says when it may be retried is waited for.
    """
    known = error if isinstance(error, ApplicationError) else None
    wait = ladder.wait_after(message.attempts)
    if known is not None and known.non_retryable:
        wait = None
    elif wait is not None and known is not None and known.next_retry_delay is not None:
        wait = known.next_retry_delay
    kind = (known.type if known else None) or type(error).__name__ or "Error"
    # As the database takes it, whatever an exception says: marks of others are written with it.
    return Failed(message, storable(kind), storable(message_of(error)), wait)


@dataclass(frozen=True)
class Holder:
    """Who has messages in hand, and marks them while they are still its own."""

    completing: TextClause  # of `completing()`
    failing: TextClause  # of `failing()`
    values: Mapping[str, object] = field(default_factory=dict)  # that its conditions name

    async def complete(self, session: AsyncSession, messages: Sequence[Message]) -> None:
        """Marks messages whose workflow has been started, or whose work is done."""
        if messages:
            await session.execute(self.completing, {**named(messages), **self.values})

    async def fail(self, session: AsyncSession, failed: Sequence[Failed]) -> list[Failed]:
        """Marks attempts that have failed; returns those that are dead letters with this call."""
        if not failed:
            return []
        values = {
            **named([one.message for one in failed]),
            "waits": [one.wait for one in failed],
            "error_types": [one.error_type for one in failed],
            "error_messages": [one.error_message for one in failed],
            "attempts": [one.message.attempts for one in failed],
            **self.values,
        }
        marked = {(row.tenant_id, row.id) for row in await session.execute(self.failing, values)}
        return [
            one
            for one in failed
            if one.is_dead and (one.message.tenant_id, one.message.id) in marked
        ]

    async def write(self, session: AsyncSession, marks: Marks, source: Source) -> None:
        """Writes marks; messages that have failed for good become dead letters of `source`."""
        await self.complete(session, marks.completed)
        dead = await self.fail(session, marks.failed)
        await put_letters(session, list(_letters_of(dead, source)))


def completing(theirs: str = "true") -> TextClause:
    """The SQL that completes messages, by `:tenants` and `:ids`, where they are still `theirs`.

    `theirs` is a condition on `m`, the message.
    """
    return text(f"""
        update outbox_messages as m
        set {COMPLETED}
        from unnest(cast(:tenants as text[]), cast(:ids as uuid[])) as marked (tenant_id, id)
        where m.tenant_id = marked.tenant_id and m.id = marked.id
            and m.status = 'processing' and {theirs}
    """)


def failing(theirs: str) -> TextClause:
    """The SQL that fails messages where they are still `theirs`, and returns which it has failed.

    `theirs` is a condition on `m`, the message, and on `failed`, what is written of it.
    """
    return text(f"""
        update outbox_messages as m
        set {FAILED}
        from unnest(
            cast(:tenants as text[]), cast(:ids as uuid[]), cast(:waits as interval[]),
            cast(:error_types as text[]), cast(:error_messages as text[]), cast(:attempts as int[])
        ) as failed (tenant_id, id, wait, error_type, error_message, attempts)
        where m.tenant_id = failed.tenant_id and m.id = failed.id
            and m.status = 'processing' and {theirs}
        returning m.tenant_id, m.id
    """)


def named(messages: Sequence[Message]) -> dict[str, object]:
    """The parameters `tenants` and `ids` of a statement on `messages`."""
    return {
        "tenants": [message.tenant_id for message in messages],
        "ids": [message.id for message in messages],
    }


def _letters_of(dead: Iterable[Failed], source: Source) -> Iterator[Letter]:
    for one in dead:
        message = one.message
        try:
            yield Letter(
                workflow_id=message.letter_id,
                source=source,
                error_type=one.error_type,
                message=one.error_message,
                attempts=message.attempts,
                message_id=message.id,
            )
        except TenancyError as error:
            # The row's tenant cannot be one, so there is nobody whose letter it would be. The
            # message stays where it is, and so do its reasons.
            log.error(
                "message.nobodys", extra={"message_id": str(message.id), "error": error.sentence}
            )
