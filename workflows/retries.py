"""The activities' retry policies, all of them finite, and their heartbeat timeout."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy

DATABASE_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=10,  # about 6 minutes, enough for a database restart or failover
)

OUTSIDE_RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2.0,
    maximum_attempts=5,  # 30 seconds of waiting in all
)

# After that, another worker retries what a killed one was doing; the activities send heartbeats.
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=20)
