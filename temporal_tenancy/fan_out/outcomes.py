"""What a child's failure means for the ledger."""

from __future__ import annotations

from typing import Final

from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
    TimeoutError,
)

from temporal_tenancy.control_plane.models import LedgerState
from temporal_tenancy.errors import FeatureNotEnabled, TenantOffboarding, TenantSuspended
from temporal_tenancy.fan_out.models import Outcome

# The tenant could not run any more when its turn came: no failure, and no one's fault.
SKIPPING: Final = frozenset(
    error.__name__ for error in (TenantSuspended, TenantOffboarding, FeatureNotEnabled)
)
REASON_MAX_CHARACTERS: Final = 500


def outcome_of_failure(
    tenant_id: str, error: BaseException, *, workflow_id: str, run_id: str | None
) -> Outcome:
    """The outcome of a child that ended with `error`: skipped or failed, and why."""
    cause = root_cause(error)
    error_type = type_of(cause)
    skipped = error_type in SKIPPING
    return Outcome(
        tenant_id=tenant_id,
        state=LedgerState.SKIPPED if skipped else LedgerState.FAILED,
        reason=sentence_of(cause),
        error_type=error_type,
        workflow_id=workflow_id,
        run_id=run_id,
    )


def root_cause(error: BaseException) -> BaseException:
    """The innermost failure: that of the activity, behind the workflow's and the child's."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error


def type_of(error: BaseException) -> str:
    """A failure's type in one word."""
    if isinstance(error, ApplicationError):
        return error.type or "ApplicationError"
    if isinstance(error, TimeoutError):
        return f"Timeout.{error.type.name}" if error.type else "Timeout"
    if isinstance(error, TerminatedError):
        return "Terminated"
    if isinstance(error, CancelledError):
        return "Cancelled"
    return type(error).__name__


def sentence_of(error: BaseException) -> str:
    """A failure in one sentence, `type: message`, as people are shown it."""
    message = error.message if isinstance(error, FailureError) else str(error)
    prefix = f"{type_of(error)}: "
    text = message if message.startswith(prefix) else f"{prefix}{message}"
    return text if len(text) <= REASON_MAX_CHARACTERS else f"{text[:REASON_MAX_CHARACTERS]}…"
