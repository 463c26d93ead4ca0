"""The task queues: work that a person waits for, work for soon, and work that may take long."""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """A task queue; each worker serves one or more of them."""

    CRITICAL = "critical"  # payments, and anything that a person waits for
    DEFAULT = "default"  # work that should start within seconds
    BULK = "bulk"  # nightly and monthly work over all tenants
