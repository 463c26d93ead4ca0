"""Jobs that have failed for good, and starting them again in their own tenant.

`TenancyPlugin` puts these on every worker of workflows.
"""

from __future__ import annotations

from temporal_tenancy.dead_letters.activities import (
    find_dead_letters,
    forget_dead_letters,
    resolve_dead_letters,
)
from temporal_tenancy.dead_letters.failed_runs import record_failed_run
from temporal_tenancy.dead_letters.workflows import SweepDeadLetters

DEAD_LETTER_ACTIVITIES = (
    record_failed_run,
    find_dead_letters,
    resolve_dead_letters,
    forget_dead_letters,
)

__all__ = ["DEAD_LETTER_ACTIVITIES", "SweepDeadLetters"]
