"""What to do once a release was halted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from temporal_tenancy.deployments.releases import Release

_HOUR: Final = timedelta(hours=1)


class Step(NamedTuple):
    """A command, without the program's name, and the rest of the sentence that it begins."""

    command: str
    purpose: str


def steps_after_halt(release: Release, *, running: int | None = None) -> Sequence[Step]:
    """Returns what to do after a halt, in order.

    Args:
        release: that was halted.
        running: how many runs are still on its version; None: not known.
    """
    steps = []
    if running != 0:
        ends = "ends the runs that are still on it, so that the next two run them again"
        where = f"{release.build_id} --deployment {release.deployment}"
        steps.append(Step(f"deployments rollback {where} --terminate", ends))
    # All that has failed since it began: whoever reads this may do so in the morning.
    hours = max(1, math.ceil((datetime.now(UTC) - release.began_at) / _HOUR))
    return [
        *steps,
        Step("ticks catch-up --wait", "runs the tenants that a fan-out missed"),
        Step(
            f"dead-letters replay --status open --newer-than {hours}h",
            "starts the other jobs that failed",
        ),
    ]
