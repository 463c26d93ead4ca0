"""A run's own dead letter: written by the workflow that fails, before it ends.

What ends without its own doing (a timeout, a termination, a start that is refused) is found by the
sweep.
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


@platform_activity("keeps what failed for good, also of a tenant whose jobs may not run now")
async def record_failed_run(run: FailedRun) -> bool:
    """Writes the dead letter of the calling workflow; returns whether there is one now.

    As the tenant, in whose data it stays. A worker without a database has nowhere to write it.
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
        log.error(
            "dead_letter.recorded", extra={"error_type": run.error_type, "error": run.message}
        )
    return True
