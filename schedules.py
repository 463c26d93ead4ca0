"""Every scheduled job. `starter.py schedules apply` puts them in force."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.schedules import ScheduledJob
from workflows import WORKFLOWS  # noqa: F401  # the jobs are known once they are imported

# The cron lines are in UTC; a monthly job works on the month before.
SCHEDULES: Final = [
    ScheduledJob("billing.cycle", "0 6 1 * *"),
    ScheduledJob("analytics.aggregate", "0 6 1 * *"),
]
