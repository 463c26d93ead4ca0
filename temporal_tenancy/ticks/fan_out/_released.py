"""Follows the runs of a shard that are on another worker version, and no children of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.exceptions import FailureError

from temporal_tenancy.ticks.fan_out import _activities as activities
from temporal_tenancy.ticks.fan_out.payloads import (
    ChildRef,
    EndedRuns,
    LookAtRuns,
    Outside,
    StartedRun,
    TenantOutcome,
)

PAUSE_MIN: Final = timedelta(seconds=1)  # between two looks
PAUSE_MAX: Final = timedelta(seconds=15)
PART: Final = 4  # the pause, as a part of the time since the last run began


@dataclass(frozen=True)
class _Followed:
    run: Outside
    since: datetime
    outcome: asyncio.Future[TenantOutcome]


class ReleasedRuns:
    """The runs that a shard's activities have started, and that have not ended yet.

    One activity looks at all of them, so that they cost the shard's history little.
    """

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}  # by workflow id
        self._stopped = False

    async def ended(self, child: ChildRef, started: StartedRun) -> TenantOutcome:
        """Waits until a run has ended; returns its outcome.

        Raises:
            FailureError: the server could not be asked.
        """
        run = Outside(
            tenant_id=child.tenant_id,
            workflow_id=child.workflow_id,
            build_id=started.build_id,
            deployment=started.deployment,
        )
        outcome: asyncio.Future[TenantOutcome] = asyncio.get_running_loop().create_future()
        self._followed[child.workflow_id] = _Followed(run, workflow.now(), outcome)
        return await outcome

    def stop(self) -> None:
        """Ends `look`, once no run is followed."""
        self._stopped = True

    async def look(self, options: Mapping[str, Any]) -> None:
        """Looks at the runs until `stop`.

        Args:
            options: of the activity that asks the server.
        """
        while True:
            await workflow.wait_condition(lambda: bool(self._followed) or self._stopped)
            if not self._followed:
                return
            await workflow.sleep(self._pause())
            request = LookAtRuns(runs=[each.run for each in self._followed.values()])
            try:
                found: EndedRuns = await workflow.execute_activity(
                    activities.look_at_runs, request, **options
                )
            except FailureError as error:
                for each in self._followed.values():
                    each.outcome.set_exception(error)
                self._followed.clear()
                continue
            for outcome in found.outcomes:
                self._followed.pop(outcome.workflow_id).outcome.set_result(outcome)

    def _pause(self) -> timedelta:
        last = max(each.since for each in self._followed.values())
        return min(PAUSE_MAX, max(PAUSE_MIN, (workflow.now() - last) / PART))
