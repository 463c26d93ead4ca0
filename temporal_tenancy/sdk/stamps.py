"""The stamp of a run: its owner, and the fields that its start gets from that.

Starts by a client, by a parent workflow and by a schedule get the same stamp, and the guard checks
each run against it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    ScheduleActionStartWorkflow,
    StartWorkflowInput,
    UpdateWithStartStartWorkflowInput,
)
from temporalio.common import Priority, SearchAttributePair, TypedSearchAttributes
from temporalio.worker import StartChildWorkflowInput

from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope
from temporal_tenancy.sdk import agreement, header

Start = (
    StartWorkflowInput
    | UpdateWithStartStartWorkflowInput
    | StartChildWorkflowInput
    | ScheduleActionStartWorkflow
)
"""The SDK's requests that start a run."""

# The SDK still accepts untyped search attributes, which are deprecated. They stay unchanged.
Attributes = TypedSearchAttributes | Mapping[str, Any]


@dataclass(frozen=True)
class Stamp:
    """The job, scope and workflow id of a run, which agree."""

    job: Job
    scope: Scope
    id: WorkflowId  # names another job if this run works off that job's messages

    @classmethod
    def of(cls, job: Job, job_input: BaseModel, workflow_id: str) -> Stamp:
        """Returns the stamp of a run of `job` with this input.

        Raises:
            TenantMismatch: the id does not agree with the input.
        """
        parts = agreement.check_workflow_id(workflow_id, job, job_input)
        return cls(job, agreement.scope_of(job, job_input), parts)

    @classmethod
    def of_id(cls, job: Job, workflow_id: str) -> Stamp:
        """Returns the stamp of a run whose id was checked before, where its input is not at hand.

        Raises:
            TenantMismatch: the id is not `{owner}/{job}/{key}`.
        """
        parts = WorkflowId.parse(workflow_id)
        scope = TenantScope(parts.tenant) if parts.tenant else PlatformScope(job.reason)
        return cls(job, scope, parts)

    def check(
        self, headers: Mapping[str, Payload] | None, attributes: Attributes | None, *, what: str
    ) -> None:
        """Checks the header and the typed search attributes of a start, where there are any.

        Raises:
            TenantMismatch: one of them disagrees with the stamp; `what` is the bearer of the
                header, as the subject of the message.
        """
        agreement.check_header(headers, self.scope, what=what)
        if isinstance(attributes, TypedSearchAttributes):
            agreement.check_search_attributes(
                attributes, self.scope, self.id.job, what=f'workflow "{self.id}"'
            )

    def put_on(self, start: Start, *, caller: Scope | None, weight: float | None = None) -> None:
        """Sets the fields of `start` in place.

        Always sets what names the owner: header, fairness key, and the typed search attributes
        `TenantId` and `Job`. Sets priority, summary, details and execution timeout only where they
        are unset. For `caller` and `weight` see `prioritised()`.
        """
        start.headers = header.write(start.headers, self.scope)
        if isinstance(start, ScheduleActionStartWorkflow):
            start.typed_search_attributes = self._with_own(start.typed_search_attributes)
        elif start.search_attributes is None or isinstance(
            start.search_attributes, TypedSearchAttributes
        ):
            # A child needs them as well: it inherits neither search attributes nor summary.
            start.search_attributes = self._with_own(start.search_attributes)
        start.priority = prioritised(
            start.priority, self.scope, self.job, caller=caller, weight=weight
        )
        start.static_summary = start.static_summary or summary(self.id)
        start.static_details = start.static_details or details(self.job)
        start.execution_timeout = start.execution_timeout or self.job.execution_timeout

    def _with_own(self, attributes: TypedSearchAttributes | None) -> TypedSearchAttributes:
        own = agreement.own_attributes(self.scope.owner, self.id.job)
        return (attributes or TypedSearchAttributes.empty).updated(
            *(SearchAttributePair(key, value) for key, value in own.items())
        )


def is_stamped(action: ScheduleActionStartWorkflow) -> bool:
    """Whether a schedule's action has a stamp, so that a client with the plugin wrote it."""
    return header.read(action.headers) is not None and bool(action.priority.fairness_key)


def prioritised(
    priority: Priority,
    scope: Scope,
    job: Job,
    *,
    caller: Scope | None = None,
    weight: float | None = None,
) -> Priority:
    """Returns `priority` with the owner's fairness key, and the job's priority where it has none.

    Args:
        priority: what the start asks for.
        scope: the scope of the run, whose owner is the fairness key.
        job: the job of the run.
        caller: the scope of the code that starts the run; None outside any. A tenant's code
            chooses neither key nor weight: it could use another tenant's share, or a larger one.
        weight: the fairness weight of the tenant's plan, 0.001 to 1000; None keeps the parent's or
            the server's default (1).
    """
    return fair(
        dataclasses.replace(
            priority,
            priority_key=priority.priority_key or int(job.priority),
            fairness_weight=priority.fairness_weight or weight,
        ),
        scope,
        caller=caller,
        weight=weight,
    )


def fair(
    priority: Priority, scope: Scope, *, caller: Scope | None, weight: float | None = None
) -> Priority:
    """Returns `priority` with the owner's fairness key and, if a tenant calls, with `weight`.

    For `caller` and `weight` see `prioritised()`.
    """
    return dataclasses.replace(
        priority,
        fairness_key=scope.owner,
        fairness_weight=weight if isinstance(caller, TenantScope) else priority.fairness_weight,
    )


def summary(workflow_id: WorkflowId) -> str:
    """Returns one line for the Web UI's list: at most 200 characters (400 bytes fit)."""
    owner = workflow_id.owner
    if owner == PLATFORM:
        job = registry.get(workflow_id.job)
        is_fan_out = job is not None and job.kind == "tenant"
        owner = "every tenant" if is_fan_out else "the platform"
    # A schedule's action has the key "tick"; the server adds each run's time to the id alone.
    key = "" if workflow_id.key == "tick" else f": {workflow_id.key}"
    return f"{workflow_id.job} for {owner}{key}"[:200]


@functools.cache
def details(job: Job) -> str:
    """Returns the job's docstring, as Markdown: at most 5,000 characters (20,000 bytes fit)."""
    return (inspect.getdoc(job.workflow) or job.name)[:5000]
