"""What a start is stamped with beside its scope: fairness, priority, and words for people."""

from __future__ import annotations

import dataclasses
import functools
import inspect

from temporalio.common import Priority

from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import Scope, TenantScope


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
