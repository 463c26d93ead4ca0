"""The worker versions on which tenants' runs start, as the releases say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import DBAPIError
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.core.directory import STATE_CACHE_SECONDS
from temporal_tenancy.core.scope import _outside
from temporal_tenancy.deployments.releases import Release, Releases
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem

LONGEST_READ: Final = 5.0  # seconds that a start waits for the database

log: Final = logging.getLogger(__name__)


@dataclass
class ReleasedVersions:
    """The worker versions on which tenants' runs start, read at most every `seconds`.

    If the database does not answer, there are no releases, and all start on the current version.

    Args:
        database: the one with the control plane's tables.
        seconds: how long what was read is valid.
        clock: returns the current time in seconds.
    """

    database: Database
    seconds: float = STATE_CACHE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _known: tuple[float, Sequence[Release]] | None = field(default=None, init=False)
    _asked: tuple[asyncio.AbstractEventLoop, asyncio.Task[Sequence[Release]]] | None = field(
        default=None, init=False
    )

    async def version_of(self, tenant_id: str, queue: str) -> WorkerDeploymentVersion | None:
        """Returns the version that a release gives a tenant on a task queue; None: the current one.

        Concurrent calls share one query. It may be called in the tenant's own scope.
        """
        for release in await self.ramping():
            if release.has(tenant_id, queue):
                return release.version
        return None

    async def ramping(self) -> Sequence[Release]:
        """Returns the releases that are ramping."""
        if self._known is not None and self.clock() - self._known[0] < self.seconds:
            return self._known[1]
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked[0] is not loop or self._asked[1].done():
            with _outside():  # the answer is for all tenants
                self._asked = loop, loop.create_task(self._read())
        # If one caller is cancelled, the others still get the answer.
        return await asyncio.shield(self._asked[1])

    async def _read(self) -> Sequence[Release]:
        now = self.clock()
        try:
            async with asyncio.timeout(LONGEST_READ):
                found = await Releases(self.database).ramping()
        except (DatabaseProblem, DBAPIError, TimeoutError) as error:
            # The current version is right for everybody, so a start does not wait for this.
            log.warning("releases.unread", extra={"error_type": type(error).__name__})
            found = []
        self._known = now, found
        return found
