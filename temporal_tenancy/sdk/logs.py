"""The fields of a job's log lines: its tenant, job, run and attempt, and the worker.

The library logs through the standard `logging`: a constant event, and fields in `extra`. The host
decides how to write the lines, and `JobContext` on its handler adds these fields to each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from temporalio import activity, workflow

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.scope import PlatformScope, TenantScope, last_scope
from temporal_tenancy.core.trace_context import trace_ids
from temporal_tenancy.sdk.private_names import ERROR_IDENTIFIER

FIELDS: Final = ("tenant_id", "job", "job_id", "run_id", "attempt", "worker")
"""The fields of every line of a job. `job_id` is the workflow id. A line of platform work has
`scope` and `reason`, unless it has a reason of its own, and a `tenant_id` only if it is about one
tenant."""

_SDK_DETAILS: Final = ("temporal_workflow", "temporal_activity")
SDK_EXTRAS: Final = (
    *_SDK_DETAILS,
    "workflow_info",
    "activity_info",
    "temporal_log",
    ERROR_IDENTIFIER,
)
"""The attributes that the SDK sets on its loggers' records, which are more than a line needs."""
_REPORTED: Final = "__tenancy_reported__"
_OF_JOBS: Final = ("tenant_id", "scope", "job_id")
_RUNNERS: Final = frozenset({"temporalio", "asyncio"})  # of jobs' code


def job_fields() -> dict[str, Any]:  # names to strings and numbers
    """Returns the fields of the job that the running code is part of; empty outside any.

    Inside an activity they include its type, as `activity`. `worker` is not among them.
    """
    fields: dict[str, Any] = {}
    if activity.in_activity():
        run = activity.info()
        fields = _fields_of(
            run.workflow_id, run.workflow_type, run.workflow_run_id, run.attempt, run.activity_type
        )
    elif (here := _workflow_info()) is not None:
        fields = _fields_of(here.workflow_id, here.workflow_type, here.run_id, here.attempt)
    scope = last_scope()  # a closed scope counts as well: its line is still that tenant's
    if isinstance(scope, TenantScope):
        fields["tenant_id"] = scope.tenant_id
    elif isinstance(scope, PlatformScope):
        fields |= {"scope": PLATFORM, "reason": scope.reason}
    return fields


def add_job(line: MutableMapping[str, Any], worker: str | None = None) -> None:
    """Adds `job_fields()` to a line's fields in place, and overrides what the line claims.

    Args:
        line: the fields by name; for a `LogRecord`, its `vars()`.
        worker: the identity that this process polls with; None adds none.
    """
    fields = job_fields()
    for name in _SDK_DETAILS:
        details = line.get(name)
        if details and not fields:  # the SDK logs about a run, from outside it
            fields = _fields_of_details(details)
    if "reason" in line:  # the line's own says why it is written, not why the scope was entered
        fields.pop("reason", None)
    line.update(fields)
    if "tenant_id" not in line and "scope" not in line and "job_id" in line:
        line.update(owner_of(line["job_id"]))
    if worker is not None:
        line["worker"] = worker
    line.update(trace_ids())


def is_of_a_job(line: Mapping[str, Any], logger: str) -> bool:
    """Whether a line is about a job or a tenant, so that an error in it may quote their data.

    Args:
        line: the fields by name, after `add_job`.
        logger: the name of the logger that wrote it.
    """
    return any(name in line for name in _OF_JOBS) or logger.partition(".")[0] in _RUNNERS


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record is new: not of a workflow's replay, and not a failure logged before."""
    if _workflow_info() is not None and workflow.unsafe.is_replaying_history_events():
        return False
    if record.name == activity.logger.name and record.exc_info:
        return not getattr(record.exc_info[1], _REPORTED, False)
    return True


class JobContext(logging.Filter):
    """A filter for a handler: it drops records that are no news, and adds `FIELDS` to others."""

    def __init__(self, worker: str | None = None) -> None:
        """`worker` is the identity that this process polls with; None adds none."""
        super().__init__()
        self.worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record is news, and adds its job's fields if it is."""
        if not is_news(record):
            return False
        add_job(vars(record), self.worker)
        return True


def mark_reported(error: BaseException) -> None:
    """Marks a failure as logged with its job, so that `is_news` drops the SDK's own line of it."""
    setattr(error, _REPORTED, True)


def _workflow_info() -> workflow.Info | None:
    """Returns what the SDK says of the workflow that runs here; None outside any.

    None also while the sandbox imports a workflow's module for a run: the run is not set up yet,
    and asking it raises whatever its state makes of that.
    """
    if not workflow.in_workflow():
        return None
    try:
        return workflow.info()
    except AttributeError:
        return None


def _fields_of(
    workflow_id: str | None,
    workflow_type: str | None,
    run_id: str | None,
    attempt: int | None,
    activity_type: str | None = None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"job": workflow_type}
    if workflow_id is not None:
        fields |= owner_of(workflow_id)
        fields |= {"job_id": workflow_id, "run_id": run_id}
    fields["attempt"] = attempt
    if activity_type is not None:
        fields["activity"] = activity_type
    return fields


def _fields_of_details(details: Mapping[str, Any]) -> dict[str, Any]:
    return _fields_of(
        details.get("workflow_id"),
        details.get("workflow_type"),
        details.get("workflow_run_id", details.get("run_id")),
        details.get("attempt"),
        details.get("activity_type"),
    )


def owner_of(workflow_id: str) -> dict[str, str]:
    """Returns the owner and job that a workflow id names; empty if the id is malformed."""
    # Not WorkflowId.parse, which raises for a malformed id and takes longer: lines are frequent.
    parts = workflow_id.split("/", 2)
    if len(parts) != 3:
        return {}
    owner, job, _ = parts
    return {"job": job, **({"scope": PLATFORM} if owner == PLATFORM else {"tenant_id": owner})}
