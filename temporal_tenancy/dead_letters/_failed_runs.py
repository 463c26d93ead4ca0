"""The dead letter that a failing workflow records itself, before it ends.

The sweep finds the runs that cannot: those that time out, are terminated, or are refused at start.
"""

from __future__ import annotations

import logging
from typing import Final

from temporalio import activity

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters.recording import Letter, Source, record
from temporal_tenancy.postgres.database import current_database, tenant_session
from temporal_tenancy.sdk.endings import FailedRun

log: Final = logging.getLogger(__name__)


@platform_activity("records a permanent failure, even if the tenant's jobs may not run now")
async def record_failed_run(run: FailedRun) -> bool:
    """Records the dead letter of the calling workflow, in the tenant's scope.

    Returns:
        False on a worker without a database, which has nowhere to store a letter; else True.
    """
    info = activity.info()
    try:
        current_database()
    except ConfigurationError:
        return False
    letter = Letter(
        str(info.workflow_id),
        Source.WORKFLOW,
        run.error_type,
        run.message,
        run.attempts,
        run_id=info.workflow_run_id,
        failed_at=run.failed_at,
    )
    with enter(TenantScope(run.tenant_id)):
        async with tenant_session() as session:
            new = await record(session, letter, run.payload)
    if new:
        # The letter has the words, which may quote the tenant's data.
        log.error("dead_letter.recorded", extra={"error_type": run.error_type})
    return True
