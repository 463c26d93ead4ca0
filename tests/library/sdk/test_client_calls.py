"""All calls of a client in a tenant's scope are the tenant's, even those without interceptor."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    RespondActivityTaskCompletedRequest,
)
from temporalio.client import (
    AsyncActivityHandle,
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import marks

pytestmark = pytest.mark.usefixtures("worker")

ACME, GLOBEX = TenantScope("acme"), TenantScope("globex")


@pytest.fixture
async def updated(client: Client, queue: str) -> WorkflowHandle[Any, Any]:
    """A workflow of acme's that has accepted the update "1"."""
    mailbox = await client.start_workflow(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.mailbox/{queue}",
        task_queue=queue,
    )
    await mailbox.execute_update(jobs.Mailbox.change, jobs.Note(), id="1")
    await mailbox.signal(jobs.Mailbox.end)
    return mailbox


async def test_a_tenants_code_does_not_wait_for_another_tenants_update(
    updated: WorkflowHandle[Any, Any],
) -> None:
    with enter(GLOBEX), pytest.raises(TenantMismatch, match="globex cannot poll_workflow"):
        await updated.get_update_handle("1", result_type=str).result()
    with enter(ACME):
        assert await updated.get_update_handle("1", result_type=str).result() == "acme"


async def token_of(client: Client, queue: str) -> tuple[WorkflowHandle[Any, Any], bytes]:
    """An open workflow of acme's, and the token of its pending activity."""
    handle = await client.start_workflow(
        jobs.Later.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.later/{queue}",
        task_queue=queue,
    )
    while not (left := marks.of(handle.id)):
        await handle.describe()
    return handle, bytes.fromhex(left[0])


ACTS = ["heartbeat", "complete", "fail", "report_cancellation"]


async def act_on(activity: AsyncActivityHandle, act: str) -> None:
    error = [ApplicationError("made up")] if act == "fail" else []
    await getattr(activity, act)(*error)


@pytest.mark.parametrize("act", ACTS)
async def test_a_tenants_code_does_not_complete_another_tenants_activity_by_its_token(
    client: Client, queue: str, act: str
) -> None:
    handle, token = await token_of(client, queue)
    activity = client.get_async_activity_handle(task_token=token)
    with enter(GLOBEX), pytest.raises(TenantMismatch, match="globex cannot complete"):
        await act_on(activity, act)
    with enter(ACME):
        await activity.heartbeat()
        await activity.complete("done")
    assert await handle.result() == "done"


@pytest.mark.parametrize("act", ACTS)
async def test_a_token_that_cannot_be_read_is_refused(client: Client, act: str) -> None:
    activity = client.get_async_activity_handle(task_token=b"\xff a token of another server")
    with enter(GLOBEX), pytest.raises(TenantMismatch, match="cannot be read"):
        await act_on(activity, act)


async def test_a_token_that_is_sent_past_the_interceptors_is_refused(
    client: Client, queue: str
) -> None:
    handle, token = await token_of(client, queue)
    completed = RespondActivityTaskCompletedRequest(task_token=token, namespace=client.namespace)
    with enter(GLOBEX), pytest.raises(TenantMismatch, match="respond_activity_task_completed"):
        await client.workflow_service.respond_activity_task_completed(completed)
    with enter(ACME):
        await client.workflow_service.respond_activity_task_completed(completed)
    await handle.result()


async def test_a_tenants_code_takes_no_workers_tasks(client: Client, queue: str) -> None:
    poll = PollActivityTaskQueueRequest(
        namespace=client.namespace,
        task_queue={"name": queue},  # type: ignore[arg-type]
    )
    for reached in (
        client.workflow_service,
        client.service_client.worker_service_client.workflow_service,
    ):
        with enter(GLOBEX), pytest.raises(TenantMismatch, match="only workers call it"):
            await reached.poll_activity_task_queue(poll)


async def test_another_client_of_the_same_connection_is_checked_as_well(
    client: Client, updated: WorkflowHandle[Any, Any]
) -> None:
    other = Client(client.service_client, namespace=client.namespace)
    with enter(GLOBEX), pytest.raises(TenantMismatch, match="globex cannot describe_workflow"):
        await other.get_workflow_handle(updated.id).describe()


async def test_a_tenants_code_does_all_that_a_client_can_with_its_own(
    client: Client, queue: str
) -> None:
    workflow_id = f"acme/echo.mailbox/{queue}"
    started = jobs.Mailbox.run, jobs.EchoInput(tenant_id="acme")
    with enter(ACME):
        handle = await client.start_workflow(*started, id=workflow_id, task_queue=queue)
        operation = WithStartWorkflowOperation(
            *started,
            id=workflow_id,
            task_queue=queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        told = await client.execute_update_with_start_workflow(
            jobs.Mailbox.change, jobs.Note(), start_workflow_operation=operation
        )
        assert told == "acme"
        update = await handle.start_update(
            jobs.Mailbox.change, jobs.Note(), wait_for_stage=WorkflowUpdateStage.ACCEPTED
        )
        assert await update.result() == "acme"
        assert await handle.query(jobs.Mailbox.peek) == "acme"
        await client.start_workflow(
            *started,
            id=workflow_id,
            task_queue=queue,
            start_signal="end",
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        assert await handle.result() == []
        assert (await handle.describe()).id == workflow_id
        assert (await handle.fetch_history()).events
        await client.service_client.check_health()
        for end in (WorkflowHandle.terminate, WorkflowHandle.cancel):  # the first arrives at once
            again = await client.start_workflow(*started, id=workflow_id, task_queue=queue)
            await end(again)


async def test_the_connection_is_checked_where_no_interceptor_is(
    client: Client, updated: WorkflowHandle[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Removed deliberately: the connection is the wall behind the interceptor.
    monkeypatch.setattr(TenancyClientOutbound, "_own", lambda *_: None)
    with enter(GLOBEX):
        for act in (updated.describe, updated.fetch_history, updated.cancel, updated.terminate):
            with pytest.raises(TenantMismatch, match="globex cannot"):
                await act()


def test_a_client_has_its_connection_checked_once(client: Client) -> None:
    again = Client(client.service_client, namespace=client.namespace, plugins=[TenancyPlugin()])
    assert again.service_client is client.service_client
