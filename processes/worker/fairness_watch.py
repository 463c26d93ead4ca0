"""Warns while backlogs are not served fairly; work goes on in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NoReturn

import structlog

from saas.hints import with_hint
from temporal_tenancy import Database
from temporal_tenancy.control_plane import last_fairness
from temporal_tenancy.core import end_tasks

AGAIN_IN: Final = timedelta(hours=1)  # at the soonest; the check itself is repeated once a day

log: Final = structlog.get_logger(__name__)


@asynccontextmanager
async def watching_fairness(database: Database, namespace: str) -> AsyncIterator[None]:
    """Warns if fairness was off at the last check: when the block begins, and then once a day.

    It only reads the result. `doctor` checks, and `ticks.reconcile` does once a day: a worker's
    start changes nothing on the server.
    """
    watch = asyncio.create_task(_watch(database, namespace))
    try:
        yield
    finally:
        await end_tasks(watch)


async def _watch(database: Database, namespace: str) -> NoReturn:
    while True:
        again_in = await _look(database, namespace)
        await asyncio.sleep(again_in.total_seconds())


async def _look(database: Database, namespace: str) -> timedelta:
    """Looks once; returns how long to wait before the next look."""
    try:
        found = await last_fairness(database, namespace)
    except Exception as error:  # jobs run whether or not this is known
        log.warning("fairness.unknown", error_type=type(error).__name__, error=str(error))
        return AGAIN_IN
    if found is None:
        return AGAIN_IN
    if not found.holds:
        sentence = with_hint(found.off_sentence)
        log.warning("fairness.off", message=sentence, checked_at=str(found.checked_at))
    return max(found.due_in, AGAIN_IN)
