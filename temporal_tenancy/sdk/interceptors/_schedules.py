"""The stamps of schedules, kept in their actions because no client starts their runs."""

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
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.scope import TenantScope, current_scope
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk.stamps import Stamp

Updated = ScheduleUpdate | None
Updater = Callable[[ScheduleUpdateInput], Updated | Awaitable[Updated]]


def stamp_schedule(schedule_id: str, schedule: Schedule) -> None:
    """Stamps the action of a schedule in place, if it starts a known job.

    It sets the header, fairness key, search attributes, summary and details. The action's id has
    three segments, as in `platform/billing.cycle/tick`: the server appends the nominal time to the
    last one, so that the job's name stays whole.

    Raises:
        TenancyError: the action would start a run that the guard refuses, or the schedule's id or
            the action is another owner's.
    """
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        return
    agreement.check_same_owner(current_scope(), action.id, what="schedule")
    job = registry.get(action.workflow)
    if job is None:
        return
    stamp = _agreed(job, action)
    owner = stamp.scope.owner
    if schedule_id.split("/", 1)[0] != owner:
        raise TenantMismatch(
            f'schedule "{schedule_id}" starts work of {owner}. Call it "{owner}/{stamp.id.job}".'
        )
    stamp.put_on(action, caller=current_scope())


def restamping(schedule_id: str, updater: Updater) -> Updater:
    """Returns `updater`, wrapped so that an action that it builds is stamped as well."""

    async def updated(input: ScheduleUpdateInput) -> Updated:
        result = updater(input)
        if inspect.isawaitable(result):
            result = await result
        if result is not None:
            stamp_schedule(schedule_id, result.schedule)
        return result

    return updated


def _agreed(job: Job, action: ScheduleActionStartWorkflow) -> Stamp:
    stamp = Stamp.of_id(job, action.id)
    if any(isinstance(arg, Payload) for arg in action.args):
        # Read from the server, which got it together with the id that was checked above.
        if (job.kind == "tenant") != isinstance(stamp.scope, TenantScope):
            raise TenantMismatch(f'{job.name} cannot be scheduled as "{action.id}".')
        return stamp
    model = job.input_model
    value = action.args[0] if action.args else {}
    job_input = (
        value
        if isinstance(value, model)
        else read_input(model, value, what=f"the input of {job.name}")
    )
    agreement.check_header(action.headers, agreement.scope_of(job, job_input), what=job.name)
    return Stamp.of(job, job_input, action.id)
