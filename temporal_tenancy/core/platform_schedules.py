"""When the platform jobs of a feature run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporal_tenancy.core.spelling import spelled


@spelled
@dataclass(frozen=True)
class PlatformSchedule:
    """The schedule of a platform job, which a `Feature` brings along with the job."""

    job: str
    cron: str  # five fields, in UTC
    queue: str | None = None  # the task queue of its runs; None: the job's own
    catchup_window: timedelta | None = None  # None: 7 days, as for every scheduled job
