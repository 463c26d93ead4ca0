"""What a run does as it ends: has its failure written down, and gives its slot back.

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
    """Why the calling workflow fails, and what it was given."""

    error_type: str
    message: str
    attempts: int
    failed_at: datetime
    payload: dict[str, Any] | None  # JSON; None: no message may hold it


class SlotHolder(TenantInput):
    """A workflow that has held a slot."""

    workflow_id: str


def ends_for_good(error: Exception) -> bool:
    """Whether `error`, which workflow code has raised, ends the run and no other follows it.

    What is taken for a bug is tried again by the server; a run that was cancelled has not failed.
    """
    if not workflow.is_failure_exception(error):
        return False
    if workflow.cancellation_reason() is not None and is_cancelled_exception(error):
        return False
    return not _is_tried_again(error)


def is_recorded(*, served: bool) -> bool:
    """Whether the running workflow has its failure written down.

    A run that ended before did what its history says. One that ends now does it where a feature of
    this worker serves it, and otherwise leaves a marker, by which a replay knows.
    """
    if served and not workflow.unsafe.is_replaying():
        return True
    return not workflow.patched(_PATCH_UNRECORDED)


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

    Where that does not succeed the workflow ends all the same: a relay looks after slots whose
    workflow has ended in any other way.
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
