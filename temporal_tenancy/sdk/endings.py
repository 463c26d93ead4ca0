"""The end of a run: it records its failure, and frees its slot.

It calls two activities by name, so that nothing here depends on the features that serve them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ApplicationError,
    FailureError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.payloads import fits_a_message

RECORD_FAILED_RUN: Final = "record_failed_run"  # takes a FailedRun
FREE_SLOT: Final = "free_slot"  # takes a SlotHolder
SLOT: Final = "tenancy-slot"  # the memo of a workflow that holds one

_PATCH_UNRECORDED: Final = "temporal-tenancy-failures-unrecorded"


class FailedRun(TenantInput):
    """Input of `record_failed_run`: why the calling workflow failed, and its input."""

    error_type: str
    message: str
    attempts: int
    failed_at: datetime
    payload: dict[str, Any] | None  # the input as JSON; None if no message can hold it


class SlotHolder(TenantInput):
    """Input of `free_slot`: the workflow that has held a slot."""

    workflow_id: str


def ends_for_good(error: Exception) -> bool:
    """Whether `error`, raised by workflow code, ends the run as failed, and no retry follows.

    The server retries a workflow task that a bug fails. A run that was cancelled has not failed.
    """
    if not workflow.is_failure_exception(error):
        return False
    if workflow.cancellation_reason() is not None and is_cancelled_exception(error):
        return False
    return not _is_retried(error)


def is_recorded(*, served: bool) -> bool:
    """Whether the running workflow is to record its failure.

    On replay it does what its history says. Otherwise it records if `served`, that is if a feature
    of this worker serves `record_failed_run`; if not, it leaves a marker for replays.
    """
    if served and not workflow.unsafe.is_replaying():
        return True
    return not workflow.patched(_PATCH_UNRECORDED)


async def record_own_failure(error: Exception, tenant_id: str, job_input: BaseModel) -> None:
    """Records a dead letter for the running workflow; logs a warning if that does not succeed.

    It calls a local activity, which adds one event to the history and no task for another worker.

    Args:
        error: what the workflow code raised.
        tenant_id: the tenant of the workflow.
        job_input: the input of the workflow, which the dead letter keeps without its `tenant_id`.
    """
    cause = root_cause(error)
    kind = type_of(cause)
    if kind == TenantUnknown.__name__:
        return  # a tenant that does not exist has no letters
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
            RECORD_FAILED_RUN,
            run,
            start_to_close_timeout=timedelta(seconds=10),
            schedule_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
    except (FailureError, asyncio.CancelledError):
        workflow.logger.warning("dead_letter.not_recorded")  # the sweep will find it


async def free_own_slot() -> None:
    """Frees the slot of the running workflow, if it holds one.

    The workflow ends even if that fails: a relay frees the slots of workflows that have ended.
    """
    if not workflow.memo_value(SLOT, default=False):
        return
    workflow_id = workflow.info().workflow_id
    tenant = workflow_id.split("/", 1)[0]
    with suppress(FailureError):
        await workflow.execute_local_activity(
            FREE_SLOT,
            SlotHolder(tenant_id=tenant, workflow_id=workflow_id),
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=2),
        )


def _payload(job_input: BaseModel) -> dict[str, Any] | None:
    try:
        payload = job_input.model_dump(mode="json", exclude={"tenant_id"})
    except Exception:  # any error of a model's own serializer
        return None
    return payload if fits_a_message(payload) else None


def _is_retried(error: Exception) -> bool:
    """Whether the server retries the run by its retry policy, as far as can be known here."""
    info = workflow.info()
    policy = info.retry_policy
    if policy is None or 0 < policy.maximum_attempts <= info.attempt:
        return False
    if isinstance(error, ApplicationError):
        non_retryable = policy.non_retryable_error_types or ()
        return not error.non_retryable and error.type not in non_retryable
    if isinstance(error, TimeoutError):
        return error.type in (TimeoutType.START_TO_CLOSE, TimeoutType.HEARTBEAT)
    return isinstance(error, FailureError)
