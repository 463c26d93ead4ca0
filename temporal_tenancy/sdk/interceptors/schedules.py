"""Schedules: their runs pass no client, so what a start is stamped with is kept in the action."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, current_scope
from temporal_tenancy.sdk import agreement, header
from temporal_tenancy.sdk.stamps import details, prioritised, summary

Updated = ScheduleUpdate | None
Updater = Callable[[ScheduleUpdateInput], Updated | Awaitable[Updated]]


def stamp_schedule(schedule_id: str, schedule: Schedule) -> None:
    """Puts header, fairness key, search attributes and words on the action of a known job.

    The action's id has three segments, because the server appends the nominal time to it: of
    `platform/billing.cycle/tick` the job stays whole. Raises a `TenancyError` when the action
    would start a run that the guard refuses.
    """
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        return
    agreement.check_same_owner(current_scope(), action.id, what="schedule")
    job = registry.get(action.workflow)
    if job is None:
        return
    scope, parts = _agreed(job, action)
    if schedule_id.split("/", 1)[0] != scope.owner:
        raise TenantMismatch(
            f'schedule "{schedule_id}" starts work of {scope.owner}. '
            f'Call it "{scope.owner}/{parts.job}".'
        )
    action.headers = header.write(action.headers, scope)
    action.priority = prioritised(action.priority, scope, job, caller=current_scope())
    action.typed_search_attributes = agreement.search_attributes(
        action.typed_search_attributes, scope, parts.job
    )
    action.static_summary = action.static_summary or summary(parts)
    action.static_details = action.static_details or details(job)
    action.execution_timeout = action.execution_timeout or job.execution_timeout


def restamping(schedule_id: str, updater: Updater) -> Updater:
    """Wraps an updater, so that an action it builds anew is stamped as well."""

    async def updated(input: ScheduleUpdateInput) -> Updated:
        result = updater(input)
        if inspect.isawaitable(result):
            result = await result
        if result is not None:
            stamp_schedule(schedule_id, result.schedule)
        return result

    return updated


def _agreed(job: Job, action: ScheduleActionStartWorkflow) -> tuple[Scope, WorkflowId]:
    parts = WorkflowId.parse(action.id)
    if any(isinstance(arg, Payload) for arg in action.args):
        # Read back from the server, where it was put with the id that is checked here.
        scope: Scope = TenantScope(parts.tenant) if parts.tenant else PlatformScope(job.reason)
        if (job.kind == "tenant") != (parts.tenant is not None):
            raise TenantMismatch(f'{job.name} cannot be scheduled as "{action.id}".')
        return scope, parts
    model = job.input_model
    given = action.args[0] if action.args else {}
    job_input = (
        given
        if isinstance(given, model)
        else read_input(model, given, what=f"the input of {job.name}")
    )
    scope = agreement.scope_of(job, job_input)
    agreement.check_header(action.headers, scope, what=job.name)
    return scope, agreement.check_workflow_id(action.id, job, job_input)
