"""The activity that checks once a day whether backlogs are served fairly."""

from __future__ import annotations

import logging
from typing import Final

from temporalio import activity

from temporal_tenancy.control_plane.server_checks import renew_fairness
from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.postgres.database import current_database
from temporal_tenancy.sdk.heartbeats import heartbeating

log: Final = logging.getLogger(__name__)


@platform_activity("checks whether the server serves backlogs fairly")
@heartbeating()
async def check_fairness() -> bool | None:
    """Repeats the fairness check if it is a day old, and warns if fairness is off.

    Returns whether fairness is on; None if the check failed, which is logged. Jobs run in any case.
    """
    try:
        found = await renew_fairness(activity.client(), current_database())
    except Exception as error:
        log.warning(
            "fairness.unknown", extra={"error_type": type(error).__name__, "error": str(error)}
        )
        return None
    if not found.holds:
        log.warning(
            "fairness.off",
            extra={"sentence": found.off_sentence, "checked_at": found.checked_at.isoformat()},
        )
    return found.holds
