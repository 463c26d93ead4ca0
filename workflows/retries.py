"""Retry policies by kind of failure, each of which has an end, and when to take up a retry."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy

DATABASE_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=10,  # about 6 minutes: a restart of the database, a failover
)

OUTSIDE_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2.0,
    maximum_attempts=5,  # 30 seconds of waiting in all
)

# Until another worker takes up what a killed one was doing; the activity sends heartbeats.
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)
