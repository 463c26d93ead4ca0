"""How a worker polls for tasks."""

from __future__ import annotations

from typing import Final

from temporalio.worker import PollerBehaviorSimpleMaximum

# Not `PollerBehaviorAutoscaling`: during a burst its polls have a deadline of 11 seconds instead of
# 70, and a task that the server hands to a poll that has ended is lost until its timeout, which is
# 10 seconds for a workflow task and `start_to_close_timeout` for an activity.
# benchmarks/processes/worker_pollers.py counts them.
POLLERS: Final = PollerBehaviorSimpleMaximum(5)
"""Five polls of each kind a queue, which is the SDK's default too."""
