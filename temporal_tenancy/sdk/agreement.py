"""The rule that every carrier of the tenant names the same one, with the input as the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.common import SearchAttributeKey, TypedSearchAttributes

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.inputs import JobInput, TenantInput, TenantJobInput
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.task_tokens import workflow_of

TENANT_ID: Final = SearchAttributeKey.for_keyword("TenantId")
JOB: Final = SearchAttributeKey.for_keyword("Job")


def scope_of(job: Job, job_input: BaseModel) -> Scope:
    """The scope that an input puts a job's run in."""
    if isinstance(job_input, TenantInput):
        return TenantScope(job_input.tenant_id)
    return PlatformScope(job.reason)


def check_workflow_id(workflow_id: str, job: Job, job_input: BaseModel) -> WorkflowId:
    """Returns the id's parts when they say what the input says; raises `TenantMismatch`."""
    owner = job_input.tenant_id if isinstance(job_input, TenantInput) else PLATFORM
    name = job_input.job if isinstance(job_input, JobInput | TenantJobInput) else job.name
    right = f'Start it as "{owner}/{name}/<key>".'
    try:
        parsed = WorkflowId.parse(workflow_id)
    except TenantMismatch as error:
        raise TenantMismatch(f"{error.message} {right}") from None
    if parsed.owner != owner:
        says = f"the input says {owner}" if owner != PLATFORM else f"{job.name} is the platform's"
        belongs = parsed.tenant or "the platform"
        raise TenantMismatch(
            f'workflow id "{workflow_id}" belongs to {belongs}, but {says}. {right}'
        )
    if parsed.job != name:
        raise TenantMismatch(
            f'workflow id "{workflow_id}" is of the job {parsed.job}, but this is {name}. {right}'
        )
    return parsed


def check_header(headers: Mapping[str, Payload] | None, scope: Scope, *, what: str) -> None:
    """Raises `TenantMismatch` when there is a header and it names another owner than `scope`."""
    carried = header.read(headers)
    if carried is not None and carried.owner != scope.owner:
        raise TenantMismatch(
            f"{what} belongs to {scope.owner}, but the header says {carried.owner}. "
            "A header is only transport: start it in the right scope, or without one."
        )


def check_search_attributes(
    attributes: TypedSearchAttributes, scope: Scope, job: str, *, what: str
) -> None:
    """Raises `TenantMismatch` when `TenantId` or `Job` is there and says something else."""
    for key, right in own_attributes(scope.owner, job).items():
        value = attributes.get(key)
        if value is not None and value != right:
            raise TenantMismatch(
                f"{what} is {right}, but its search attribute {key.name} says {value}. "
                "Leave the attribute out: it is set from the input."
            )


def own_attributes(owner: str, job: str) -> dict[SearchAttributeKey[str], str]:
    """The search attributes that a run of an owner's job has."""
    return {TENANT_ID: owner, JOB: job}


def check_same_owner(scope: Scope | None, workflow_id: str, *, what: str) -> None:
    """Raises `TenantMismatch` when code in a tenant's scope reaches for what is not that tenant's.

    Outside any job, and in the platform's scope, naming the id is entering its tenant.
    """
    if not isinstance(scope, TenantScope):
        return
    if workflow_id.split("/", 1)[0] != scope.tenant_id or "/" not in workflow_id:
        raise TenantMismatch(
            f'{scope.tenant_id} cannot {what} "{workflow_id}": it is not {scope.tenant_id}\'s.'
        )


def check_task_token(scope: Scope | None, token: bytes, *, what: str) -> None:
    """As `check_same_owner`, by a task token, which says whose workflow it is of."""
    if not isinstance(scope, TenantScope):
        return
    workflow_id = workflow_of(token)
    if workflow_id is None:
        raise TenantMismatch(
            f"{scope.tenant_id} gives a task token that cannot be read. "
            "Give the one that activity.info() has."
        )
    check_same_owner(scope, workflow_id, what=what)


def check_indexed_fields(fields: Mapping[str, Payload], own: Mapping[str, str], who: str) -> None:
    """Raises `TenantMismatch` when search attributes, as they are sent, say other than `own`."""
    for name, value in own.items():
        if name not in fields:
            continue
        try:
            said = json.loads(fields[name].data or b"null")
        except (ValueError, RecursionError):
            said = None
        if said != value:
            raise TenantMismatch(
                f"{who} sets the search attribute {name} to something else than {value}. "
                "Leave it as it is: it is set from the input."
            )
