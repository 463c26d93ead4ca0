"""Idempotency keys: a repeated request gets the answer of the first, and has no second effect."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.idempotency import IdempotencyKey
from saas.refusals import Refused
from temporal_tenancy.postgres import LockHeld

KEPT: Final = timedelta(hours=24)
KEY_MAX_CHARACTERS: Final = 255
_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{KEY_MAX_CHARACTERS}}}")


class IdempotencyKeyInvalid(Refused):
    """The text cannot be an idempotency key."""


class IdempotencyKeyReused(Refused):
    """The key was sent with another request."""


class IdempotencyKeyInUse(Refused):
    """The first request with the key has not been answered yet."""


@dataclass(frozen=True)
class KeyedRequest:
    """A request of the current tenant, with its idempotency key."""

    key: str
    fingerprint: str  # equal for equal requests

    @classmethod
    def of(cls, key: str, said: Mapping[str, Any]) -> KeyedRequest:
        """Returns the request that says `said` (JSON): its route and everything it asks for.

        Raises `IdempotencyKeyInvalid` unless the key is 1 to 255 visible ASCII characters.
        """
        if not _KEY.fullmatch(key):
            raise IdempotencyKeyInvalid(
                f"an idempotency key is 1 to {KEY_MAX_CHARACTERS} visible ASCII characters. A UUID "
                "is a good one."
            )
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return cls(key, hashlib.sha256(text.encode()).hexdigest())


class Answered(NamedTuple):
    """The answer to a request."""

    answer: dict[str, Any]  # JSON
    repeated: bool  # an earlier request had it first


async def answer_once(
    session: AsyncSession,
    request: KeyedRequest,
    make: Callable[[], Awaitable[dict[str, Any]]],
) -> Answered:
    """Returns the answer of the first request with this key; calls `make` if this is the first.

    The key, the answer and what `make` writes are one transaction, that of `session`. A request
    that fails uses up no key. A key is kept for a day.

    Args:
        session: the tenant's session; commit it right afterwards.
        request: the key and what was asked.
        make: does what was asked in `session`, and returns the answer (JSON).

    Raises:
        IdempotencyKeyReused: the key was sent with another request, of any kind.
        IdempotencyKeyInUse: another request with the key has been in progress for seconds.
    """
    if not await _claim(session, request):
        return Answered(await _earlier(session, request), repeated=True)
    answer = await make()
    await session.execute(
        update(IdempotencyKey).where(IdempotencyKey.key == request.key).values(answer=answer)
    )
    return Answered(answer, repeated=False)


async def _claim(session: AsyncSession, request: KeyedRequest) -> bool:
    """Adds the key, or takes over an expired one; waits for another transaction that adds it."""
    row = {
        "fingerprint": request.fingerprint,
        "answer": null(),
        "expires_at": func.clock_timestamp() + KEPT,
    }
    claim = (
        insert(IdempotencyKey)
        .values(key=request.key, **row)
        .on_conflict_do_update(
            index_elements=["tenant_id", "key"],
            set_=row,
            where=IdempotencyKey.expires_at <= func.clock_timestamp(),
        )
        .returning(IdempotencyKey.key)
    )
    try:
        return await session.scalar(claim) is not None
    except LockHeld:
        raise IdempotencyKeyInUse(
            "a request with this idempotency key is in progress. Send it again in a moment."
        ) from None


async def _earlier(session: AsyncSession, request: KeyedRequest) -> dict[str, Any]:
    found = (
        await session.execute(
            select(IdempotencyKey.fingerprint, IdempotencyKey.answer).where(
                IdempotencyKey.key == request.key
            )
        )
    ).one_or_none()
    if found is None or found.answer is None:  # deleted as expired just now
        raise IdempotencyKeyInUse(
            "this idempotency key expires at this moment. Send the request again."
        )
    if found.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused(
            "this idempotency key was sent with another request. Use a new key for each request, "
            "and repeat a request unchanged."
        )
    answer: dict[str, Any] = found.answer
    return answer
