"""Requires that what code asks of the outbox in a block is awaited before the block commits."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.postgres.raw_session import RawSession
from temporal_tenancy.postgres.tenant_owned import SESSION_UNFINISHED
from temporal_tenancy.postgres.unfinished import Unfinished, Work

Result = TypeVar("Result")


def in_block(
    session: AsyncSession | RawSession, work: Coroutine[Any, Any, Result], name: str
) -> Coroutine[Any, Any, Result]:
    """Returns `work` so that the block of `session` cannot commit unless it has finished.

    Args:
        session: the session that the work uses. If no tenant's block has opened it, `work` is
            returned as it is.
        work: a coroutine that has not begun.
        name: the call, for the error.
    """
    among = (
        session.unfinished
        if isinstance(session, RawSession)
        else session.info.get(SESSION_UNFINISHED)
    )
    return Work(work, name, among) if isinstance(among, Unfinished) else work
