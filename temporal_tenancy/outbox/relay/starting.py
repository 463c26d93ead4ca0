"""Starting the workflow of a message: what is refused for good, and what may be tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, UnknownJob
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.outbox.relay.messages import Message, Unit
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.outbox.work_off import WorkOff, work_off_job
from temporal_tenancy.sdk.endings import SLOT
from temporal_tenancy.sdk.taken_ids import own_run

RPC_TIMEOUT: Final = timedelta(seconds=10)
MESSAGE: Final = "tenancy-message"  # the memo that names the message a run was started for
CORRELATION: Final = "correlation_id"

# The server's trouble, and not the message's: it costs no attempt.
_AWAY: Final = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.NOT_FOUND,  # the namespace
)


Deliver = Callable[[Client, Unit, RetryLadder], Awaitable[object]]
"""What is done with a unit: `start_unit`, or what a measurement puts in its place."""


class ServerAway(Exception):
    """Temporal does not answer."""


def job_of_message(message: Message, tenant: Tenant | None) -> tuple[Job, Any]:
    """The job that a message asks for, and its input (of the job's own model).

    Raises the `TenancyError` for which it can never run.

    A tenant that is suspended is no such reason: its messages wait.
    """
    job = registry.get(message.job)
    if job is None or not job.is_asked_for:
        raise UnknownJob(
            f"{message.job!r} is not a job that the relay knows. Deploy the release that has it, "
            "and replay the message; or discard it."
        )
    if tenant is None or tenant.status is not TenantStatus.SUSPENDED:
        require_runnable(message.tenant_id, tenant, job)
    job_input = read_payload(job, message)
    _require_key(job, job_input, message)
    return job, job_input


def _require_key(job: Job, job_input: BaseModel, message: Message) -> None:
    """Refuses a key that no door takes, in a sentence for those who read dead letters."""
    if message.key == str(message.id):
        return  # it was given none, by a release that took no period for it
    try:
        job.key_of(job_input, message.key)
    except InvalidPayload as error:
        raise InvalidPayload(
            f"{error.message} Ask for the job anew by its period and discard this one, or replay "
            "it to have it done under the key that it has."
        ) from None


def read_payload(job: Job, message: Message) -> Any:  # of the job's own model
    """The job's input.

    Raises `PayloadUnreadable`, `InvalidPayload` or `TenantMismatch`, or whatever the job's model
    does where it does not fit.
    """
    what = f"the payload of {job.name}"
    values = read_message(message.payload, what=what)
    if not isinstance(values, dict) or "tenant_id" in values:
        raise InvalidPayload(f"{what} is an object of its fields, without the tenant.")
    return read_input(job.input_model, values | {"tenant_id": message.tenant_id}, what=what)


async def start_unit(client: Client, unit: Unit, ladder: RetryLadder) -> bool:
    """Starts a unit's workflow; one that was started before is left as it is.

    Returns whether it was started now.

    Raises:
        ServerAway: the server does not answer; nothing is wrong with the messages.
        WorkflowIdTaken: what has the workflow's id is not what was to be started.
        Exception: anything else, which is an attempt that has failed.
    """
    first = unit.messages[0]
    job = registry.get_or_raise(first.job)
    memo: dict[str, Any] = {}
    if unit.holds_slot:
        memo[SLOT] = True
    if unit.coalesced:
        name, input = work_off_job().name, _batch(unit, ladder)
    else:
        name, input = job.name, unit.input or read_payload(job, first)
        memo[MESSAGE] = str(first.id)
        if first.correlation_id is not None:
            memo[CORRELATION] = first.correlation_id
    try:
        with _telling_whether_it_is_away(), enter(TenantScope(unit.tenant_id)):
            await client.start_workflow(
                name,
                input,
                id=unit.workflow_id,
                task_queue=job.queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                execution_timeout=job.execution_timeout,
                priority=Priority(priority_key=min(m.priority for m in unit.messages)),
                memo=memo or None,
                rpc_timeout=RPC_TIMEOUT,
            )
    except WorkflowAlreadyStartedError:
        with _telling_whether_it_is_away():
            await own_run(client, unit.workflow_id, name)
        return False
    return True


@contextmanager
def _telling_whether_it_is_away() -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        if error.status in _AWAY and not _is_too_large(error):
            raise ServerAway(f"{error.status.name}: {error.message}") from error
        raise


def _is_too_large(error: RPCError) -> bool:
    """Whether it is what was sent that the server's resources are too small for, and not others."""
    return "larger than max" in error.message


def _batch(unit: Unit, ladder: RetryLadder) -> WorkOff:
    return WorkOff(
        tenant_id=unit.tenant_id,
        job=unit.messages[0].job,
        message_ids=[message.id for message in unit.messages],
        retries=ladder,
    )
