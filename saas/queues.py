"""The task queues: work that waits for a person, work that should be soon, work that may take."""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """Each worker serves one or more of these."""

    CRITICAL = "critical"  # money, and whatever a person waits for
    DEFAULT = "default"  # what should happen within seconds
    BULK = "bulk"  # nightly and monthly work over all tenants
