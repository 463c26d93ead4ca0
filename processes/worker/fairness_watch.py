"""Whether backlogs are served fairly: looked at beside the work, which goes on in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NoReturn

import structlog
from temporalio.client import Client

from saas.hints import with_hint
from temporal_tenancy.control_plane.server_checks import renew_fairness
from temporal_tenancy.postgres.database import Database

RETRY_AFTER: Final = timedelta(hours=1)  # when it could not be found out

log: Final = structlog.get_logger(__name__)


@asynccontextmanager
async def watching_fairness(client: Client, database: Database) -> AsyncIterator[None]:
    """Warns where fairness is off: when the block begins, and once a day."""
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
    """Returns when to look again."""
    try:
        found = await renew_fairness(client, database)
    except Exception as error:  # whatever it is, jobs run without knowing
        log.warning("fairness.unknown", error_type=type(error).__name__, error=str(error))
        return RETRY_AFTER
    if not found.holds:
        sentence = with_hint(found.off_sentence)
        log.warning("fairness.off", message=sentence, checked_at=str(found.checked_at))
    return found.due_in
