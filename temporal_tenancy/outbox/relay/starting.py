"""Starts the workflows of messages; tells permanent failures from those worth a retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, UnknownJob
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import read_message
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.tenant_state import require_runnable
from temporal_tenancy.core.trace_context import span
from temporal_tenancy.outbox.probe.starting import start_probe
from temporal_tenancy.outbox.probe.workflow import NAME as PROBE
from temporal_tenancy.outbox.probe.workflow import ProbeInput
from temporal_tenancy.outbox.relay.messages import Message, Unit
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.outbox.work_off import WorkOff, work_off_job
from temporal_tenancy.sdk.endings import SLOT
from temporal_tenancy.sdk.lost_connections import is_connection_lost
from temporal_tenancy.sdk.search_attributes import (
    SearchAttributesMissing,
    require_search_attributes,
)
from temporal_tenancy.sdk.taken_ids import own_run, own_run_and_input, require_same_input

RPC_TIMEOUT: Final = timedelta(seconds=10)
MESSAGE: Final = "tenancy-message"  # the memo with the id of the message that a run was started for
CORRELATION: Final = "correlation_id"

# These are the server's failures and not the message's, so they cost no attempt.
_AWAY: Final = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.NOT_FOUND,  # of the namespace
)


Deliver = Callable[[Client, Unit, RetryLadder], Awaitable[object]]
"""What a relay does with each unit: `start_unit`, or a replacement for measurements and tests.

It takes the relay's client, the unit, and the retries of coalesced messages. A result of False says
that the workflow was started before, so it may have ended and its slot may be free. `ServerAway`
releases the messages without counting an attempt; any other exception fails the attempt.
"""


class ServerAway(Exception):
    """Temporal cannot start any workflow now; the messages are not at fault.

    It is unreachable or overloaded, rejects the client, or lacks the namespace or its search
    attributes.
    """


def job_of_message(message: Message, tenant: Tenant | None) -> tuple[Job, Any]:
    """Returns the job that a message requests, and its input as the job's own model.

    Raises the `TenancyError` that means it can never run. A suspended tenant is no such error: its
    messages wait.
    """
    job = registry.get(message.job)
    if message.tenant_id == PLATFORM and job is not None and job.name == PROBE:
        return job, read_input(ProbeInput, read_message(message.payload, what=PROBE), what=PROBE)
    if job is None or not job.is_asked_for:
        raise UnknownJob(
            f"{message.job!r} is not a job that the relay knows. Deploy the release that has it "
            "and replay the message, or discard the message."
        )
    if tenant is None or tenant.status is not TenantStatus.SUSPENDED:
        require_runnable(message.tenant_id, tenant, job)
    job_input = read_payload(job, message)
    _require_key(job, job_input, message)
    return job, job_input


def _require_key(job: Job, job_input: BaseModel, message: Message) -> None:
    """Raises `InvalidPayload` for a key that every entry point rejects; a dead letter shows it."""
    if message.key == str(message.id):
        return  # an earlier release did not use the period as the key
    try:
        job.key_of(job_input, message.key)
    except InvalidPayload as error:
        raise InvalidPayload(
            f"{error.message} Request the job again by its period and discard this message, or "
            "replay it to run the job under its current key."
        ) from None


def read_payload(job: Job, message: Message) -> Any:  # of the job's own model
    """Returns the job's input.

    Raises `PayloadUnreadable`, `InvalidPayload` or `TenantMismatch`, or any error of the job's own
    model.
    """
    what = f"the payload of {job.name}"
    values = read_message(message.payload, what=what)
    if not isinstance(values, dict) or "tenant_id" in values:
        raise InvalidPayload(f"{what} must be a JSON object without tenant_id.")
    return read_input(job.input_model, values | {"tenant_id": message.tenant_id}, what=what)


async def start_unit(client: Client, unit: Unit, ladder: RetryLadder) -> bool:
    """Starts the workflow of a unit, unless it was started before.

    Args:
        client: a client with the tenancy plugin.
        unit: the messages to start the workflow for.
        ladder: the retries of coalesced messages; the workflow's input carries it.

    Returns:
        Whether this call started the workflow.

    Raises:
        ServerAway: Temporal cannot start any workflow now; the messages are not at fault.
        WorkflowIdTaken: another workflow, or a start that is refused, already has the id.
        KeyReused: an earlier run of the job has the id, with another input.
        Exception: any other error is a failed attempt.
    """
    first = unit.messages[0]
    if unit.tenant_id == PLATFORM:
        return await _start_probe(client, first)
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
        async with _raising_server_away(client):
            with enter(TenantScope(unit.tenant_id)), _in_trace_of(unit):
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
        async with _raising_server_away(client):
            if unit.coalesced:
                await own_run(client, unit.workflow_id, name)
            else:
                await run_of_message(client, first, input)
        return False
    return True


@contextmanager
def _in_trace_of(unit: Unit) -> Iterator[None]:
    """Runs the start in the trace of the unit's first message; it links to those of the others."""
    job = unit.messages[0].job
    parents = [message.traceparent for message in unit.messages]
    with span(f"relay {job}", "producer", parents=parents) as relaying:
        relaying.describe(**{"tenancy.job": job, "tenancy.workflow_id": unit.workflow_id})
        yield


async def run_of_message(
    client: Client, message: Message, job_input: BaseModel | None = None
) -> WorkflowExecutionDescription:
    """Returns the latest run under a message's own workflow id, if it is of the same request.

    Args:
        client: a client with the tenancy plugin.
        message: one that no workflow handles together with others.
        job_input: its payload as the job's own model; None: not decoded yet.

    Raises:
        WorkflowIdTaken: another workflow, or a start that is refused, has the id.
        KeyReused: the run has another input.
        RPCError: there is no run (NOT_FOUND), or the server does not answer.
        Exception: any error of `read_payload`.
    """
    workflow_id = str(message.own_id)
    run, given = await own_run_and_input(client, workflow_id, message.job)
    if await _message_of(run) != str(message.id):
        require_same_input(
            run,
            job_input or read_payload(registry.get_or_raise(message.job), message),
            given,
            otherwise="Request it again under another key and discard this letter, or replay the "
            f'letter, which runs it as "{message.reused_key_id}".',
        )
    return run


async def _message_of(run: WorkflowExecutionDescription) -> object:
    """Returns the id of the message that a run was started for, or None."""
    try:
        return await run.memo_value(MESSAGE, default=None)
    except Exception:  # any code may have written the memo
        return None


async def _start_probe(client: Client, message: Message) -> bool:
    _, probe = job_of_message(message, None)
    try:
        async with _raising_server_away(client):
            await start_probe(client, message.key, probe)
    except WorkflowAlreadyStartedError:
        return False
    return True


@asynccontextmanager
async def _raising_server_away(client: Client) -> AsyncIterator[None]:
    try:
        yield
    except RPCError as error:
        away = error.status in _AWAY or is_connection_lost(error)
        if away and not _is_too_large(error):
            raise ServerAway(f"{error.status.name}: {error.message}") from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            fault = await _fault_of_namespace(client, error)
            if fault is not None:
                raise ServerAway(fault) from error
        raise


async def _fault_of_namespace(client: Client, error: RPCError) -> str | None:
    """Says that the namespace has lost the search attributes of every run; None if it has them."""
    try:
        async with asyncio.timeout(RPC_TIMEOUT.total_seconds()):
            await require_search_attributes(client)
    except SearchAttributesMissing as missing:
        return missing.sentence
    except (RPCError, TimeoutError) as unanswered:
        why = str(unanswered) or "no answer"
        return f"Temporal does not say which search attributes there are: {why}"
    # Once they are registered again, each part of the server learns of it a little later.
    is_about_them = "search attribute" in error.message.lower()
    return f"{error.status.name}: {error.message}" if is_about_them else None


def _is_too_large(error: RPCError) -> bool:
    """Whether the server's resources are exhausted only by the size of this request."""
    return "larger than max" in error.message


def _batch(unit: Unit, ladder: RetryLadder) -> WorkOff:
    return WorkOff(
        tenant_id=unit.tenant_id,
        job=unit.messages[0].job,
        message_ids=[message.id for message in unit.messages],
        retries=ladder,
    )
