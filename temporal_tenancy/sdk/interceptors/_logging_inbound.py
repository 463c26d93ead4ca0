"""One log line when a workflow or an activity ends, with its duration and its failure.

These interceptors run inside tenancy's own, so that a line has the scope. Starts are logged at
DEBUG. The loggers are the standard library's, so they are silent until a process configures them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.exceptions import CancelledError, is_cancelled_exception
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    WorkflowInboundInterceptor,
)

from temporal_tenancy.core.failures import message_of, root_cause, type_of
from temporal_tenancy.core.redaction import withholding
from temporal_tenancy.sdk.logs import mark_reported

log: Final = logging.getLogger(__name__)


class LoggingActivityInbound(ActivityInboundInterceptor):
    """Logs the outcome of each attempt of an activity."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        log.debug("activity.started")
        began = time.perf_counter()
        try:
            with withholding(input.args, known=activity.info().workflow_id or ""):
                result = await self.next.execute_activity(input)
        except (asyncio.CancelledError, CancelledError) as error:
            log.info("activity.cancelled", extra={"cancelled_by": _canceller(), **_took(began)})
            mark_reported(error)
            raise
        except Exception as error:
            failure = {"error_type": type_of(root_cause(error)), **_took(began)}
            log.warning("activity.failed", exc_info=True, extra=failure)
            mark_reported(error)
            raise
        log.info("activity.succeeded", extra=_took(began))
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
            raise
        except (asyncio.CancelledError, Exception) as error:
            self._log_failure(error)
            raise
        self._log(logging.INFO, "workflow.succeeded", **_ran())
        return result

    def _log_failure(self, error: BaseException) -> None:
        if is_cancelled_exception(error):
            # Without a reason the run is only being evicted from the worker's cache.
            if workflow.cancellation_reason() is not None:
                self._log(logging.INFO, "workflow.cancelled", **_ran())
        elif workflow.is_failure_exception(error):
            cause = root_cause(error)
            # What failed elsewhere was logged there, by a process that knows what it may tell.
            words = {"error": message_of(error)} if cause is error else {}
            kind = type_of(cause)
            self._log(logging.WARNING, "workflow.failed", error_type=kind, **words, **_ran())
        # Anything else is a bug that fails the workflow task, not the run: the SDK logs it.

    def _log(self, level: int, event: str, **fields: object) -> None:
        if log.isEnabledFor(level) and not workflow.unsafe.is_replaying_history_events():
            log.log(level, event, extra=fields)


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
