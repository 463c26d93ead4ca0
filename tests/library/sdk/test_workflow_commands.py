"""A tenant's workflow commands may name only its own workflows, even if others would permit it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import WorkflowOutboundInterceptor

from temporal_tenancy.sdk import _guard as guard
from temporal_tenancy.sdk.interceptors._workflow_outbound import TenancyWorkflowOutbound
from temporal_tenancy.sdk.lookups import if_known
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.temporal import make_worker


@pytest.fixture
async def globex(client: Client, queue: str) -> AsyncIterator[WorkflowHandle[Any, Any]]:
    """An open workflow of globex's without a worker."""
    handle = await client.start_workflow(
        jobs.Waiter.run,
        jobs.EchoInput(tenant_id="globex"),
        id=f"globex/echo.waiter/{queue}",
        task_queue=f"{queue}-of-globex",
    )
    yield handle
    if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
        await handle.terminate()


async def start(
    client: Client, queue: str, how: str, target: str, *, waits: bool = False
) -> WorkflowHandle[jobs.Reach, str]:
    """Starts a run that reaches out; unless it `waits`, it ends if nothing rejects that."""
    return await client.start_workflow(
        jobs.Reach.run,
        jobs.ReachInput(tenant_id="acme", how=how, target=target),
        id=f"acme/echo.reach/{queue}",
        task_queue=queue,
        start_signal=None if waits else "end",
    )


async def failure_of(handle: WorkflowHandle[Any, Any]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause


async def exists(client: Client, workflow_id: str) -> bool:
    return await if_known(client.get_workflow_handle(workflow_id).describe()) is not None


@pytest.mark.parametrize(
    "target",
    [
        "globex/report.daily/{}",
        "platform/billing.cycle/{}",
        "acme2/report.daily/{}",
        "ACME/report.daily/{}",
        "reports/{}",
        "/{}",
    ],
)
@pytest.mark.usefixtures("worker")
async def test_a_child_of_an_unknown_type_takes_no_id_that_is_not_its_tenants(
    client: Client, queue: str, target: str
) -> None:
    target = target.format(queue)
    handle = await start(client, queue, "child", target)
    failure = await failure_of(handle)
    assert failure.type == "TenantMismatch"
    assert failure.non_retryable
    assert target in failure.message
    assert not await exists(client, target)


@pytest.mark.usefixtures("worker")
async def test_a_child_of_an_unknown_type_may_have_its_tenants_id(
    client: Client, queue: str
) -> None:
    handle = await start(client, queue, "child", f"acme/report.daily/{queue}", waits=True)
    await handle.signal(jobs.Reach.end, f"key-{queue}")  # a second child, by its key only
    assert await handle.result() == "child"
    assert await exists(client, f"acme/report.daily/{queue}")
    assert await exists(client, f"acme/some.unknown/key-{queue}")


@pytest.mark.usefixtures("worker")
async def test_a_workflow_does_not_cancel_another_tenants(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any]
) -> None:
    failure = await failure_of(await start(client, queue, "cancel", globex.id))
    assert (failure.type, failure.non_retryable) == ("TenantMismatch", True)
    assert failure.message == f'acme cannot cancel "{globex.id}": it is not acme\'s.'
    history = await globex.fetch_history()
    asked = "workflow_execution_cancel_requested_event_attributes"
    assert not any(event.HasField(asked) for event in history.events)  # type: ignore[arg-type]


@pytest.mark.usefixtures("worker")
async def test_a_workflow_cancels_and_signals_its_own_tenants(client: Client, queue: str) -> None:
    for how in ("cancel", "signal"):
        other = await client.start_workflow(
            jobs.Waiter.run,
            jobs.EchoInput(tenant_id="acme"),
            id=f"acme/echo.waiter/{how}-{queue}",
            task_queue=queue,
        )
        handle = await client.start_workflow(
            jobs.Reach.run,
            jobs.ReachInput(tenant_id="acme", how=how, target=other.id),
            id=f"acme/echo.reach/{how}-{queue}",
            task_queue=queue,
        )
        await handle.signal(jobs.Reach.end)
        assert await handle.result() == how
        if how == "cancel":
            with pytest.raises(WorkflowFailureError) as caught:
                await other.result()
            assert isinstance(caught.value.cause, CancelledError)
        else:
            assert await other.result() == "acme"


FORGOTTEN = {
    "known child": "start_child_workflow",
    "child": "start_child_workflow",
    "signal": "signal_external_workflow",
    "continue as new": "continue_as_new",
}


@pytest.mark.parametrize(("how", "hook"), FORGOTTEN.items())
@pytest.mark.usefixtures("worker")
async def test_what_an_interceptor_forgets_the_guard_refuses(
    client: Client,
    queue: str,
    globex: WorkflowHandle[Any, Any],
    how: str,
    hook: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Removed deliberately: the guard is the wall behind the interceptor.
    monkeypatch.setattr(TenancyWorkflowOutbound, hook, getattr(WorkflowOutboundInterceptor, hook))
    target = globex.id if how == "signal" else f"globex/echo.tell/{queue}"
    if how == "continue as new":
        target = "globex"
    failure = await failure_of(await start(client, queue, how, target))
    assert failure.type == "TenantMismatch"
    assert ("sets the search attribute" if how == "continue as new" else target) in failure.message
    assert not await exists(client, f"globex/echo.tell/{queue}")


@pytest.mark.usefixtures("worker")
async def test_a_child_is_not_put_among_another_tenants(client: Client, queue: str) -> None:
    handle = await start(client, queue, "child with attributes", f"acme/report.daily/{queue}")
    failure = await failure_of(handle)
    assert failure.type == "TenantMismatch"
    assert "TenantId" in failure.message


@pytest.mark.parametrize("how", ["child", "cancel"])
@pytest.mark.usefixtures("worker")
async def test_the_platforms_workflows_name_any_tenant(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any], how: str
) -> None:
    target = globex.id if how == "cancel" else f"globex/report.daily/{queue}"
    told = await client.execute_workflow(
        jobs.PlatformReach.run,
        jobs.ReachOfThePlatform(how=how, target=target),
        id=f"platform/echo.reach_of_the_platform/{queue}",
        task_queue=queue,
    )
    assert told == how


@pytest.mark.usefixtures("worker")
async def test_what_an_exempted_workflow_names_is_its_own_affair(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any]
) -> None:
    told = await client.execute_workflow(
        "third_party.reach", globex.id, id=f"any-{queue}", task_queue=queue
    )
    assert told == "cancel"


@pytest.fixture
async def forgetful(client: Client, queue: str) -> AsyncIterator[None]:
    """A worker that caches no workflow, so that each task replays the history."""
    async with make_worker(client, queue, max_cached_workflows=0):
        yield


async def reached_out_before(
    client: Client, queue: str, target: str
) -> WorkflowHandle[jobs.Reach, str]:
    """An open run that has cancelled `target`, as under a release that permitted it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "refusal_of", lambda *_: None)
        handle = await start(client, queue, "cancel", target, waits=True)
        await until(handle, "external_workflow_execution_cancel_requested")
    return handle


@pytest.mark.usefixtures("forgetful")
async def test_an_open_run_that_reached_out_before_goes_on(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any]
) -> None:
    handle = await reached_out_before(client, queue, globex.id)
    assert await handle.query(jobs.Reach.is_ended) is False
    await handle.signal(jobs.Reach.end)
    assert await handle.result() == "cancel"


@pytest.mark.usefixtures("forgetful")
async def test_an_open_run_that_reached_out_before_is_refused_when_it_does_so_anew(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any]
) -> None:
    handle = await reached_out_before(client, queue, globex.id)
    await handle.signal(jobs.Reach.end, globex.id)
    assert (await failure_of(handle)).type == "TenantMismatch"


@pytest.mark.usefixtures("forgetful")
async def test_a_run_that_was_refused_still_answers_queries(
    client: Client, queue: str, globex: WorkflowHandle[Any, Any]
) -> None:
    handle = await start(client, queue, "cancel", globex.id)
    assert (await failure_of(handle)).type == "TenantMismatch"
    assert await handle.query(jobs.Reach.is_ended) is True


async def until(handle: WorkflowHandle[Any, Any], kind: str) -> None:
    """Waits for an event of this type."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if (event.WhichOneof("attributes") or "").startswith(kind):
            return
