"""Every scheduled job, with its cron line in UTC. `starter.py schedules apply` puts them in force."""

from __future__ import annotations

from typing import Final

import workflows
from temporal_tenancy.schedules import ScheduledJob

__all__ = ["SCHEDULES", "workflows"]  # the jobs are known once their modules are imported

SCHEDULES: Final = [
    ScheduledJob("billing.cycle", "0 6 1 * *"),
    ScheduledJob("analytics.aggregate", "0 6 1 * *"),
]
