"""The stamp of a run: whose it is, and what its start is given because of that.

A start by a client, a child workflow and a schedule are stamped alike, and the guard checks a run
by the same stamp.
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
"""Each way to start a run."""

# The SDK still takes untyped ones, which are deprecated. They are left as they are.
Attributes = TypedSearchAttributes | Mapping[str, Any]


@dataclass(frozen=True)
class Stamp:
    """Whose a run of a job is: its scope and its id, which agree."""

    job: Job
    scope: Scope
    id: WorkflowId  # the job in it may be another one, whose messages this run works off

    @classmethod
    def of(cls, job: Job, job_input: BaseModel, workflow_id: str) -> Stamp:
        """The stamp of a run that takes `job_input`.

        Raises `TenantMismatch` when its id does not say what the input says.
        """
        parts = agreement.check_workflow_id(workflow_id, job, job_input)
        return cls(job, agreement.scope_of(job, job_input), parts)

    @classmethod
    def of_id(cls, job: Job, workflow_id: str) -> Stamp:
        """The stamp of a run by an id that was checked before, where its input is not at hand.

        Raises `TenantMismatch` when it is no workflow id.
        """
        parts = WorkflowId.parse(workflow_id)
        scope = TenantScope(parts.tenant) if parts.tenant else PlatformScope(job.reason)
        return cls(job, scope, parts)

    def check(
        self, headers: Mapping[str, Payload] | None, attributes: Attributes | None, *, what: str
    ) -> None:
        """Raises `TenantMismatch` when header or search attributes are there and say otherwise.

        `what` is what the header belongs to, in words.
        """
        agreement.check_header(headers, self.scope, what=what)
        if isinstance(attributes, TypedSearchAttributes):
            agreement.check_search_attributes(
                attributes, self.scope, self.id.job, what=f'workflow "{self.id}"'
            )

    def put_on(self, start: Start, *, caller: Scope | None, weight: float | None = None) -> None:
        """Gives `start` what it lacks of its own, and always what says whose it is.

        `caller` and `weight` are as `prioritised()` takes them.
        """
        start.headers = header.write(start.headers, self.scope)
        if isinstance(start, ScheduleActionStartWorkflow):
            start.typed_search_attributes = self._with_own(start.typed_search_attributes)
        elif start.search_attributes is None or isinstance(
            start.search_attributes, TypedSearchAttributes
        ):
            # Children, too, inherit neither search attributes nor summary.
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
    """Whether a schedule's action was put there by a client that stamps it."""
    return header.read(action.headers) is not None and bool(action.priority.fairness_key)


def prioritised(
    priority: Priority,
    scope: Scope,
    job: Job,
    *,
    caller: Scope | None = None,
    weight: float | None = None,
) -> Priority:
    """Gives a start the job's priority where it has none, and always its owner's fairness key.

    `weight` is the share of the tenant's plan, 0.001 to 1000; None leaves what it has from its
    parent or the server (1). A tenant's code (`caller`) names neither: it would work under another
    tenant's share, or take a larger one.
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
    """`priority` under the owner's fairness key, and with `weight` for a tenant's code."""
    return dataclasses.replace(
        priority,
        fairness_key=scope.owner,
        fairness_weight=weight if isinstance(caller, TenantScope) else priority.fairness_weight,
    )


def summary(workflow_id: WorkflowId) -> str:
    """One line for the Web UI's list, at most 400 bytes."""
    whose = workflow_id.owner
    if whose == PLATFORM:
        job = registry.get(workflow_id.job)
        of_tenants = job is not None and job.kind == "tenant"
        whose = "every tenant" if of_tenants else "the platform"
    # What a schedule starts all has the key that it was given; the time is in the id alone.
    key = "" if workflow_id.key == "tick" else f": {workflow_id.key}"
    return f"{workflow_id.job} for {whose}{key}"[:200]


@functools.cache
def details(job: Job) -> str:
    """What the job is, from its docstring; Markdown, at most 20,000 bytes."""
    return (inspect.getdoc(job.workflow) or job.name)[:5000]
