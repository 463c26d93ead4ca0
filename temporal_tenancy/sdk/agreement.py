"""Agreement checks: id, header and search attributes must name the same tenant as the input."""

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
from temporal_tenancy.sdk._task_tokens import workflow_of

TENANT_ID: Final = SearchAttributeKey.for_keyword("TenantId")
JOB: Final = SearchAttributeKey.for_keyword("Job")


def scope_of(job: Job, job_input: BaseModel) -> Scope:
    """Returns the scope of a run of `job` with this input."""
    if isinstance(job_input, TenantInput):
        return TenantScope(job_input.tenant_id)
    return PlatformScope(job.reason)


def check_workflow_id(workflow_id: str, job: Job, job_input: BaseModel) -> WorkflowId:
    """Returns the parts of a workflow id that agrees with the input of its run.

    The id must be `{tenant_id}/{job}/{key}`, or `platform/{job}/{key}` for a platform job.

    Raises:
        TenantMismatch: the id has another form, or names another owner or job.
    """
    owner = job_input.tenant_id if isinstance(job_input, TenantInput) else PLATFORM
    name = job_input.job if isinstance(job_input, JobInput | TenantJobInput) else job.name
    advice = f'Start it as "{owner}/{name}/<key>".'
    try:
        parsed = WorkflowId.parse(workflow_id)
    except TenantMismatch as error:
        raise TenantMismatch(f"{error.message} {advice}") from None
    if parsed.owner != owner:
        claim = f"the input says {owner}" if owner != PLATFORM else f"{job.name} is the platform's"
        holder = parsed.tenant or "the platform"
        raise TenantMismatch(
            f'workflow id "{workflow_id}" belongs to {holder}, but {claim}. {advice}'
        )
    if parsed.job != name:
        raise TenantMismatch(
            f'workflow id "{workflow_id}" names the job {parsed.job}, but this is {name}. {advice}'
        )
    return parsed


def check_header(headers: Mapping[str, Payload] | None, scope: Scope, *, what: str) -> None:
    """Checks that the header, if there is one, names the owner of `scope`.

    Args:
        headers: the headers of the start or message; they may lack ours.
        scope: the scope that the header must agree with.
        what: the bearer of the header, as the subject of the message: "billing.cycle for ua".

    Raises:
        TenantMismatch: the header names another owner, or cannot be read.
    """
    carried = header.read(headers)
    if carried is not None and carried.owner != scope.owner:
        raise TenantMismatch(
            f"{what} belongs to {scope.owner}, but the header says {carried.owner}. "
            "The input decides, not the header: start it in the right scope, or without a header."
        )


def check_search_attributes(
    attributes: TypedSearchAttributes, scope: Scope, job: str, *, what: str
) -> None:
    """Checks that `TenantId` and `Job`, where they are set, name the owner of `scope` and `job`.

    Raises:
        TenantMismatch: one of them has another value; `what` is the subject of the message.
    """
    for key, expected in own_attributes(scope.owner, job).items():
        value = attributes.get(key)
        if value is not None and value != expected:
            raise TenantMismatch(
                f"{what} has the search attribute {key.name} {value}, but it must be {expected}. "
                "Leave the attribute out: it is set from the input."
            )


def own_attributes(owner: str, job: str) -> dict[SearchAttributeKey[str], str]:
    """Returns the search attributes of a run; `owner` is a tenant id or "platform"."""
    return {TENANT_ID: owner, JOB: job}


def check_same_owner(scope: Scope | None, workflow_id: str, *, what: str) -> None:
    """Checks that code in a tenant's scope names only that tenant's workflows and schedules.

    Outside any job, and in the platform's scope, any id is allowed: to name it is to enter its
    tenant.

    Args:
        scope: the scope of the calling code; None outside any.
        workflow_id: the id of a workflow or schedule, `{owner}/…`.
        what: the call, as a verb for the message: "cancel", "describe the schedule".

    Raises:
        TenantMismatch: the scope is a tenant's, and the id is not that tenant's.
    """
    if not isinstance(scope, TenantScope):
        return
    if workflow_id.split("/", 1)[0] != scope.tenant_id or "/" not in workflow_id:
        raise TenantMismatch(
            f'{scope.tenant_id} cannot {what} "{workflow_id}": it is not {scope.tenant_id}\'s.'
        )


def check_task_token(scope: Scope | None, token: bytes, *, what: str) -> None:
    """Checks the workflow that a task token belongs to, as `check_same_owner` checks an id.

    Raises:
        TenantMismatch: the scope is a tenant's, and the token is not that tenant's, or cannot be
            read.
    """
    if not isinstance(scope, TenantScope):
        return
    workflow_id = workflow_of(token)
    if workflow_id is None:
        raise TenantMismatch(
            f"{scope.tenant_id} passes a task token that cannot be read. "
            "Pass the one from activity.info()."
        )
    check_same_owner(scope, workflow_id, what=what)


def check_indexed_fields(fields: Mapping[str, Payload], own: Mapping[str, str], who: str) -> None:
    """Checks encoded search attributes, as they are sent to the server.

    Args:
        fields: JSON payloads by attribute name.
        own: the values that these attributes must have, where `fields` has them.
        who: the sender, as the subject of the message.

    Raises:
        TenantMismatch: an attribute has another value, or cannot be read.
    """
    for name, value in own.items():
        if name not in fields:
            continue
        try:
            sent = json.loads(fields[name].data or b"null")
        except (ValueError, RecursionError):
            sent = None
        if sent != value:
            raise TenantMismatch(
                f"{who} sets the search attribute {name} to a value other than {value}. "
                "Leave it alone: it is set from the input."
            )
