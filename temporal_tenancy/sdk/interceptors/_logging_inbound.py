"""One log line, and one observation, when a workflow or an activity ends.

These interceptors run inside tenancy's own, so that a line has the scope. Starts are logged at
DEBUG. The loggers are the standard library's, so they are silent until a process configures them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    RetryState,
    TerminatedError,
    TimeoutError,
    is_cancelled_exception,
)
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    WorkflowInboundInterceptor,
)

from temporal_tenancy.core.directory import record_of_this_activity
from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.observations import (
    AttemptEnded,
    AttemptOutcome,
    RunEnded,
    RunOutcome,
    Work,
    is_observed,
    observe,
    working,
)
from temporal_tenancy.core.redaction import withholding
from temporal_tenancy.core.scope import TenantScope, current_scope
from temporal_tenancy.sdk.logs import mark_reported

_FOR_GOOD: Final = (RetryState.NON_RETRYABLE_FAILURE, RetryState.MAXIMUM_ATTEMPTS_REACHED)

log: Final = logging.getLogger(__name__)


def _deferral() -> type[BaseException]:
    """Returns what the SDK raises in an activity that something else completes later."""
    try:
        activity.raise_complete_async()
    except BaseException as error:
        return type(error)


_DEFERRED: Final = _deferral()


class LoggingActivityInbound(ActivityInboundInterceptor):
    """Logs the outcome of each attempt of an activity."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if not is_observed():
            return await self._execute(input, None)
        work = _work()
        token = working.set(work)
        try:
            return await self._execute(input, work)
        finally:
            working.reset(token)

    async def _execute(self, input: ExecuteActivityInput, work: Work | None) -> Any:
        log.debug("activity.started")
        began = time.perf_counter()
        try:
            with withholding(input.args, known=activity.info().workflow_id or ""):
                result = await self.next.execute_activity(input)
        except (asyncio.CancelledError, CancelledError) as error:
            log.info("activity.cancelled", extra={"cancelled_by": _canceller(), **_took(began)})
            mark_reported(error)
            _observe_attempt(work, "cancelled", began)
            raise
        except Exception as error:
            kind = type_of(root_cause(error))
            failure = {"error_type": kind, "is_last": _is_last(error), **_took(began)}
            log.warning("activity.failed", exc_info=True, extra=failure)
            mark_reported(error)
            _observe_attempt(work, "failed", began, kind)
            raise
        except BaseException as error:
            if isinstance(error, _DEFERRED):
                log.info("activity.deferred", extra=_took(began))
                _observe_attempt(work, "deferred", began)
            else:  # the process ends
                _observe_attempt(work, "failed", began, type_of(error))
            raise
        log.info("activity.succeeded", extra=_took(began))
        _observe_attempt(work, "succeeded", began)
        return result


class LoggingWorkflowInbound(WorkflowInboundInterceptor):
    """Logs the outcome of a run once, not again on replay."""

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self._log(logging.DEBUG, "workflow.started")
        try:
            with withholding(input.args, known=workflow.info().workflow_id):
                result = await self.next.execute_workflow(input)
        except workflow.ContinueAsNewError:
            self._log(logging.DEBUG, "workflow.continued")
            _observe_run("continued")
            raise
        except (asyncio.CancelledError, Exception) as error:
            self._log_failure(error)
            raise
        self._log(logging.INFO, "workflow.succeeded", **_ran())
        _observe_run("succeeded")
        return result

    def _log_failure(self, error: BaseException) -> None:
        if is_cancelled_exception(error):
            # Without a reason the run is only being evicted from the worker's cache.
            if workflow.cancellation_reason() is not None:
                self._log(logging.INFO, "workflow.cancelled", **_ran())
                _observe_run("cancelled")
        elif workflow.is_failure_exception(error):
            cause = root_cause(error)
            # What failed elsewhere was logged there, by a process that knows what it may tell.
            words = {"error": message_of(error)} if cause is error else {}
            kind, told = type_of(cause), _is_told(error)
            fields = {**words, **_ran()}
            self._log(logging.WARNING, "workflow.failed", error_type=kind, is_told=told, **fields)
            _observe_run("failed")
        # Anything else is a bug that fails the workflow task, not the run: the SDK logs it.

    def _log(self, level: int, event: str, **fields: object) -> None:
        if log.isEnabledFor(level) and not workflow.unsafe.is_replaying_history_events():
            log.log(level, event, extra=fields)


def _is_last(error: Exception) -> bool:
    """Whether an attempt that fails with this error is known to be its activity's last."""
    policy, attempt = activity.info().retry_policy, activity.info().attempt
    if isinstance(error, ApplicationError) and error.non_retryable:
        return True
    if policy is None:
        return False
    is_named = type_of(error) in (policy.non_retryable_error_types or ())
    return is_named or 0 < policy.maximum_attempts <= attempt


def _is_told(error: BaseException) -> bool:
    """Whether a run fails because of a failure that was logged as one for good where it happened.

    A time limit fails an activity or a child without any code that could log it.
    """
    each: BaseException | None = error
    while isinstance(each, FailureError):
        if isinstance(each, ActivityError) and isinstance(each.cause, ApplicationError):
            return each.retry_state in _FOR_GOOD
        if isinstance(each, ChildWorkflowError):
            return not isinstance(each.cause, TimeoutError | TerminatedError)
        each = each.cause
    return False


def _canceller() -> str | None:
    details = activity.cancellation_details()
    if details is None:
        return None
    return ", ".join(name for name, applies in vars(details).items() if applies)


def _took(began: float) -> dict[str, float]:
    return {"duration_seconds": round(time.perf_counter() - began, 4)}


def _ran() -> dict[str, float]:
    since = workflow.now() - workflow.info().start_time
    return {"duration_seconds": round(since.total_seconds(), 4)}


def _work() -> Work:
    """Returns the running attempt; its tenant's plan is that of the directory's record."""
    info = activity.info()
    scope, record = current_scope(), record_of_this_activity()
    return Work(
        tenant_id=scope.tenant_id if isinstance(scope, TenantScope) else None,
        plan=None if record is None else record.plan.id,
        job=info.workflow_type or "",
        queue=info.task_queue,
    )


def _observe_attempt(
    work: Work | None, outcome: AttemptOutcome, began: float, error_type: str | None = None
) -> None:
    if work is not None:
        observe(AttemptEnded(work, outcome, time.perf_counter() - began, error_type))


def _observe_run(outcome: RunOutcome) -> None:
    if not is_observed() or workflow.unsafe.is_replaying_history_events():
        return
    info = workflow.info()
    owner = info.workflow_id.partition("/")[0]
    since = workflow.now() - info.start_time
    observe(
        RunEnded(
            tenant_id=None if owner == PLATFORM else owner,
            job=info.workflow_type,
            queue=info.task_queue,
            outcome=outcome,
            seconds=since.total_seconds(),
        )
    )
