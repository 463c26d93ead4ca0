"""All scheduled jobs. `starter.py schedules apply` creates or updates their schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporal_tenancy import ScheduledJob, TenantStatus
from workflows import WORKFLOWS  # noqa: F401  # importing the jobs registers them

# The cron expressions are in UTC, or with `local_time` in each tenant's time zone. A monthly job
# works on the previous month, a daily one on the previous day. The library's own platform jobs come
# with its features.
SCHEDULES: Final = [
    ScheduledJob("billing.cycle", "0 6 1 * *"),
    ScheduledJob("analytics.aggregate", "0 6 1 * *"),
    ScheduledJob("report.daily", "0 8 * * *", local_time=True),
    ScheduledJob("audit.aggregate", "30 1 * * *", spread=timedelta(minutes=30)),
    ScheduledJob("trial.expiry", "0 */4 * * *", statuses=[TenantStatus.TRIAL]),
    ScheduledJob("retention.enforce", "0 3 * * 0", spread=timedelta(hours=2)),
    ScheduledJob("cleanup.expired", "0 3 * * 0", spread=timedelta(hours=2)),
]
