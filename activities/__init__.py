"""The effects of the jobs. A new activity is one more name in `ACTIVITIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from activities.analytics import aggregate_usage
from activities.billing import issue_invoice

ACTIVITIES: Final[list[Callable[..., Any]]] = [issue_invoice, aggregate_usage]
