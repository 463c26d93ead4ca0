"""Checks in the background whether backlogs are served fairly; work goes on in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NoReturn

import structlog
from temporalio.client import Client

from saas.hints import with_hint
from temporal_tenancy import Database
from temporal_tenancy.control_plane import renew_fairness

RETRY_AFTER: Final = timedelta(hours=1)  # after a check that failed

log: Final = structlog.get_logger(__name__)


@asynccontextmanager
async def watching_fairness(client: Client, database: Database) -> AsyncIterator[None]:
    """Warns if fairness is off: at the beginning of the block, and then once a day."""
    watch = asyncio.create_task(_watch(client, database))
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait((watch,))


async def _watch(client: Client, database: Database) -> NoReturn:
    while True:
        again_in = await _look(client, database)
        await asyncio.sleep(again_in.total_seconds())


async def _look(client: Client, database: Database) -> timedelta:
    """Checks once; returns how long to wait before the next check."""
    try:
        found = await renew_fairness(client, database)
    except Exception as error:  # jobs run whether or not this can be checked
        log.warning("fairness.unknown", error_type=type(error).__name__, error=str(error))
        return RETRY_AFTER
    if not found.holds:
        sentence = with_hint(found.off_sentence)
        log.warning("fairness.off", message=sentence, checked_at=str(found.checked_at))
    return found.due_in
