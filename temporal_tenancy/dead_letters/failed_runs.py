"""A run's own dead letter: written by the workflow that fails, before it ends.

What ends without its own doing (a timeout, a termination, a start that is refused) is found by the
sweep.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ApplicationError,
    FailureError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.errors import ConfigurationError, TenantUnknown
from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters.recording import Letter, Source, fits_a_message, record
from temporal_tenancy.postgres.database import current_database, tenant_session

log: Final = structlog.get_logger(__name__)


class FailedRun(TenantInput):
    """Why the calling workflow fails, and what it was given."""

    error_type: str
    message: str
    attempts: int
    failed_at: datetime
    payload: dict[str, Any] | None  # JSON; None: no message may hold it


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
        log.error("dead_letter.recorded", error_type=run.error_type, error=run.message)
    return True


def ends_for_good(error: Exception) -> bool:
    """Whether `error`, which workflow code has raised, ends the run and no other follows it.

    What is taken for a bug is tried again by the server; a run that was cancelled has not failed.
    """
    if not workflow.is_failure_exception(error):
        return False
    if workflow.cancellation_reason() is not None and is_cancelled_exception(error):
        return False
    return not _is_tried_again(error)


async def record_own_failure(error: Exception, tenant_id: str, job_input: BaseModel) -> None:
    """Has the running workflow's dead letter written; whatever comes of it, the run ends as it did.

    Locally: one event more in the history, and no other task for any worker.
    """
    cause = root_cause(error)
    kind = type_of(cause)
    if kind == TenantUnknown.__name__:
        return  # nobody's job
    run = FailedRun(
        tenant_id=tenant_id,
        error_type=kind,
        message=message_of(cause),
        attempts=workflow.info().attempt,
        failed_at=workflow.now(),
        payload=_payload(job_input),
    )
    try:
        await workflow.execute_local_activity(
            record_failed_run,
            run,
            start_to_close_timeout=timedelta(seconds=10),
            schedule_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
    except (FailureError, asyncio.CancelledError):
        workflow.logger.warning("dead_letter.not_recorded")  # the sweep will find it


def _payload(job_input: BaseModel) -> dict[str, Any] | None:
    try:
        payload = job_input.model_dump(mode="json", exclude={"tenant_id"})
    except Exception:  # a model's own serializer
        return None
    return payload if fits_a_message(payload) else None


def _is_tried_again(error: Exception) -> bool:
    """Whether the server starts the run again by its retry policy, as far as can be told here."""
    info = workflow.info()
    policy = info.retry_policy
    if policy is None or 0 < policy.maximum_attempts <= info.attempt:
        return False
    if isinstance(error, ApplicationError):
        refused = policy.non_retryable_error_types or ()
        return not error.non_retryable and error.type not in refused
    if isinstance(error, TimeoutError):
        return error.type in (TimeoutType.START_TO_CLOSE, TimeoutType.HEARTBEAT)
    return isinstance(error, FailureError)
