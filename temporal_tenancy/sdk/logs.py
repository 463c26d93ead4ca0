"""What a log line has of its job: whose it is, which run it is of, and who worked on it.

The library logs through the standard library: a constant event, and fields in `extra`. How lines
are written is the host's business; with `JobContext` on its handler they have all of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from temporalio import activity, workflow

from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.scope import PlatformScope, TenantScope, last_scope
from temporal_tenancy.sdk._private import ERROR_IDENTIFIER

FIELDS: Final = ("tenant_id", "job", "job_id", "run_id", "attempt", "worker")
"""What every line of a job has. `job_id` is the workflow id. A line of the platform's work has
`scope` and `reason`, and no `tenant_id` unless it is about one."""

_SDK_DETAILS: Final = ("temporal_workflow", "temporal_activity")
SDK_EXTRAS: Final = (
    *_SDK_DETAILS,
    "workflow_info",
    "activity_info",
    "temporal_log",
    ERROR_IDENTIFIER,
)
"""The fields that the SDK adds to a log record; `add_job` gives the shorter ones."""
_TOLD: Final = "__tenancy_told__"


def job_fields() -> dict[str, Any]:  # names to strings and numbers
    """What is known of the job that the running code is part of; empty outside any."""
    fields: dict[str, Any] = {}
    if activity.in_activity():
        run = activity.info()
        fields = _fields_of(
            run.workflow_id, run.workflow_type, run.workflow_run_id, run.attempt, run.activity_type
        )
    elif workflow.in_workflow():
        here = workflow.info()
        fields = _fields_of(here.workflow_id, here.workflow_type, here.run_id, here.attempt)
    scope = last_scope()  # of closed scopes too: whose the line is does not change
    if isinstance(scope, TenantScope):
        fields["tenant_id"] = scope.tenant_id
    elif isinstance(scope, PlatformScope):
        fields |= {"scope": PLATFORM, "reason": scope.reason}
    return fields


def add_job(line: MutableMapping[str, Any], worker: str | None = None) -> None:
    """Adds `job_fields()` to a line's fields. What is known wins over what the line claims.

    Args:
        line: its fields by their names; of a `LogRecord`, its attributes.
        worker: the identity under which this process polls.
    """
    fields = job_fields()
    for name in _SDK_DETAILS:
        details = line.get(name)
        if details and not fields:  # the SDK speaks of a run, from outside it
            fields = _fields_of_details(details)
    line.update(fields)
    if "tenant_id" not in line and "scope" not in line and "job_id" in line:
        line.update(_owner(line["job_id"]))
    if worker is not None:
        line["worker"] = worker


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record is no replay of a workflow's past, and has not been told already."""
    if workflow.in_workflow() and workflow.unsafe.is_replaying_history_events():
        return False
    if record.name == activity.logger.name and record.exc_info:
        return not getattr(record.exc_info[1], _TOLD, False)
    return True


class JobContext(logging.Filter):
    """A handler's filter: lets through what is news, and puts `FIELDS` on the record."""

    def __init__(self, worker: str | None = None) -> None:
        """`worker` is the identity under which this process polls."""
        super().__init__()
        self.worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is news; it has its job's fields then."""
        if not is_news(record):
            return False
        add_job(vars(record), self.worker)
        return True


def told(error: BaseException) -> None:
    """Marks a failure as logged with its job, so that the SDK's own line of it is left out."""
    setattr(error, _TOLD, True)


def _fields_of(
    workflow_id: str | None,
    workflow_type: str | None,
    run_id: str | None,
    attempt: int | None,
    activity_type: str | None = None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"job": workflow_type}
    if workflow_id is not None:
        fields |= _owner(workflow_id)
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


def _owner(workflow_id: str) -> dict[str, str]:
    """Whose a workflow is and of which job, by its id; nothing where the id does not say."""
    # Not WorkflowId.parse: a line is written about a malformed id too, and costs microseconds.
    parts = workflow_id.split("/", 2)
    if len(parts) != 3:
        return {}
    owner, job, _ = parts
    return {"job": job, **({"scope": PLATFORM} if owner == PLATFORM else {"tenant_id": owner})}
