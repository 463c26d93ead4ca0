"""The jobs. A new job is one more name in `WORKFLOWS`."""

from __future__ import annotations

from typing import Final

from workflows.analytics import AggregateAnalytics
from workflows.billing import BillingCycle

WORKFLOWS: Final[list[type]] = [BillingCycle, AggregateAnalytics]
