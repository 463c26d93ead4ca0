"""Messages act in the tenant of the workflow that they name, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter
from tests.fixtures.jobs import hops as jobs
from tests.library.sdk.test_starts import forger

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
async def mailbox(
    client: Client, queue: str
) -> AsyncIterator[WorkflowHandle[jobs.Mailbox, list[str]]]:
    """An open workflow of acme's."""
    handle = await client.start_workflow(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.mailbox/{queue}",
        task_queue=queue,
    )
    yield handle
    if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
        await handle.terminate()


@pytest.fixture
async def as_globex(raw_client: Client, mailbox: Any) -> WorkflowHandle[Any, Any]:
    """The same workflow, through a client that claims to be globex."""
    foreign = await forger(raw_client, TenantScope("globex"))
    return foreign.get_workflow_handle(mailbox.id)


async def end(mailbox: WorkflowHandle[jobs.Mailbox, list[str]]) -> list[str]:
    await mailbox.signal(jobs.Mailbox.end)
    return await mailbox.result()


async def events(mailbox: WorkflowHandle[Any, Any], name: str) -> int:
    history = await mailbox.fetch_history()
    return sum(name in (event.WhichOneof("attributes") or "") for event in history.events)


async def test_a_message_without_a_header_acts_in_the_workflows_tenant(
    raw_client: Client, mailbox: Any
) -> None:
    raw = raw_client.get_workflow_handle(mailbox.id)
    await raw.signal("poke", {"text": "cli"})
    assert await raw.execute_update("change", {}) == "acme"
    assert await raw.query("peek") == "acme"
    assert await raw.query("__stack_trace")
    await raw.query("__temporal_workflow_metadata")
    assert await end(mailbox) == ["signal cli: acme acme"]


async def test_a_message_of_the_platform_acts_in_the_workflows_tenant(mailbox: Any) -> None:
    with enter(PlatformScope("a test")):
        assert await mailbox.execute_update(jobs.Mailbox.change, jobs.Note()) == "acme"
        assert await mailbox.query(jobs.Mailbox.peek) == "acme"


async def test_a_signal_from_another_tenant_is_dropped_and_logged(
    mailbox: Any, as_globex: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await as_globex.signal("poke", {"text": "boo"})
    assert await end(mailbox) == []
    dropped = [r for r in caplog.records if r.getMessage().startswith("signal.dropped")]
    assert [getattr(r, "action", None) for r in dropped] == ["signal.foreign"]


async def test_an_update_from_another_tenant_is_rejected_and_leaves_no_event(
    mailbox: Any, as_globex: Any
) -> None:
    for update in ("change", "guarded_change"):
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await as_globex.execute_update(update, {})
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "TenantMismatch"
    assert await events(mailbox, "update_accepted") == 0
    assert await end(mailbox) == []


async def test_an_update_to_a_handler_set_late_from_another_tenant_runs_nothing(
    client: Client, raw_client: Client, queue: str
) -> None:
    handle = await late_handlers(client, queue)
    assert await handle.execute_update("late", {}, result_type=str) == "acme"
    foreign = await forger(raw_client, TenantScope("globex"))
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await foreign.get_workflow_handle(handle.id).execute_update("late", {})
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "TenantMismatch"
    await foreign.get_workflow_handle(handle.id).signal("anything")
    await handle.signal("end")
    assert await handle.result() == ["update by acme", "signal end"]


async def late_handlers(client: Client, queue: str) -> WorkflowHandle[Any, list[str]]:
    """Returns a run that has set its handlers; an update before that finds none."""
    handle = await client.start_workflow(
        jobs.LateHandlers.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.late_handlers/{queue}",
        task_queue=queue,
    )
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_task_completed_event_attributes"):
            break
    return handle


async def test_a_query_from_another_tenant_is_an_error(as_globex: Any) -> None:
    for query in ("peek", "__stack_trace"):
        with pytest.raises(WorkflowQueryFailedError, match="comes from globex"):
            await as_globex.query(query)


@pytest.mark.parametrize(
    "forged", [b'"*"', b"{}", b"\x00", b"[" * 100_000], ids=["star", "object", "nul", "nested"]
)
async def test_a_header_that_cannot_be_read_is_another_tenants(
    raw_client: Client, mailbox: Any, forged: bytes
) -> None:
    foreign = (await forger(raw_client, forged)).get_workflow_handle(mailbox.id)
    await foreign.signal("poke", {})
    with pytest.raises(WorkflowQueryFailedError, match="neither a tenant nor the platform"):
        await foreign.query("peek")
    assert await end(mailbox) == []


@pytest.mark.parametrize(
    "args", [[], [{}, {}], [{}, {}, {}]], ids=["no argument", "two arguments", "three arguments"]
)
async def test_a_malformed_signal_does_not_leave_a_workflow_stuck(
    raw_client: Client, mailbox: Any, args: list[Any]
) -> None:
    await raw_client.get_workflow_handle(mailbox.id).signal("poke", args=args)
    assert await end(mailbox) == []


@pytest.mark.parametrize("update", ["change", "guarded_change"])
@pytest.mark.parametrize("args", [[], [{}, {}]], ids=["no argument", "two arguments"])
async def test_a_malformed_update_is_rejected_and_leaves_no_workflow_stuck(
    raw_client: Client, mailbox: Any, update: str, args: list[Any]
) -> None:
    with pytest.raises(WorkflowUpdateFailedError):
        await raw_client.get_workflow_handle(mailbox.id).execute_update(update, args=args)
    assert await end(mailbox) == []


async def test_a_malformed_update_to_a_handler_set_late_leaves_no_workflow_stuck(
    client: Client, raw_client: Client, queue: str
) -> None:
    handle = await late_handlers(client, queue)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await raw_client.get_workflow_handle(handle.id).execute_update("late", args=[{}, {}])
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "InvalidPayload"
    await handle.signal("end")
    assert await handle.result() == ["signal end"]


async def test_a_signal_whose_value_does_not_fit_is_dropped(
    raw_client: Client, mailbox: Any
) -> None:
    await raw_client.get_workflow_handle(mailbox.id).signal("poke", {"text": [1]})
    assert await end(mailbox) == []


async def test_an_update_whose_value_does_not_fit_is_rejected_with_our_type(
    raw_client: Client, mailbox: Any
) -> None:
    raw = raw_client.get_workflow_handle(mailbox.id)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await raw.execute_update("change", {"text": ["hunter2"]})
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "InvalidPayload"
    assert "hunter2" not in str(caught.value.cause)
    assert await raw.execute_update("change", {}) == "acme"


async def test_a_users_own_validator_still_decides(mailbox: Any) -> None:
    with pytest.raises(WorkflowUpdateFailedError):
        await mailbox.execute_update(jobs.Mailbox.guarded_change, jobs.Note(text="bad"))
    assert await mailbox.execute_update(jobs.Mailbox.guarded_change, jobs.Note()) == "acme"


async def test_after_continue_as_new_a_foreign_signal_is_still_dropped(
    mailbox: Any, as_globex: Any
) -> None:
    await mailbox.signal(jobs.Mailbox.renew)
    async for _ in mailbox.fetch_history_events(wait_new_event=True):
        """Until the first run has ended."""
    await as_globex.signal("poke", {})
    await mailbox.signal(jobs.Mailbox.poke, jobs.Note(text="own"))
    assert await end(mailbox) == ["signal own: acme acme"]


REACHES = {
    "signal": "send signal end to",
    "query": "send query peek of",
    "update": "send update change of",
    "cancel": "cancel",
    "terminate": "terminate",
    "describe": "describe",
    "history": "read the history of",
}


@pytest.mark.parametrize("act", REACHES)
async def test_a_tenants_code_cannot_reach_another_tenants_workflow(mailbox: Any, act: str) -> None:
    async def reach() -> None:
        if act == "signal":
            await mailbox.signal(jobs.Mailbox.end)
        elif act == "query":
            await mailbox.query(jobs.Mailbox.peek)
        elif act == "update":
            await mailbox.execute_update(jobs.Mailbox.change, jobs.Note())
        elif act == "history":
            await mailbox.fetch_history()
        else:
            await getattr(mailbox, act)()

    refused = pytest.raises(TenancyError, match=f'globex cannot {REACHES[act]} "acme/')
    with enter(TenantScope("globex")), refused:
        await reach()


@pytest.mark.parametrize("act", ["heartbeat", "complete", "fail", "report_cancellation"])
async def test_a_tenants_code_cannot_complete_another_tenants_activity(
    client: Client, mailbox: Any, act: str
) -> None:
    activity = client.get_async_activity_handle(
        workflow_id=mailbox.id, run_id=None, activity_id="1"
    )
    error = [ApplicationError("made up")] if act == "fail" else []
    with enter(TenantScope("globex")), pytest.raises(TenancyError, match="globex cannot complete"):
        await getattr(activity, act)(*error)


async def test_a_list_in_a_tenants_scope_shows_only_its_own(client: Client, queue: str) -> None:
    for tenant in ("acme", "globex"):
        await client.execute_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id=tenant),
            id=f"{tenant}/echo.tell/{queue}",
            task_queue=queue,
        )
    with enter(TenantScope("globex")):
        query = f"TaskQueue = '{queue}' OR TaskQueue = '{queue}'"
        seen = {w.id.split("/")[0] async for w in client.list_workflows(query)}
        counted = await client.count_workflows(f"TaskQueue = '{queue}'")
        grouped = await client.count_workflows(f"TaskQueue = '{queue}' GROUP BY ExecutionStatus")
    assert seen == {"globex"}
    assert (counted.count, grouped.count) == (1, 1)


async def test_an_upsert_of_another_tenant_fails_the_workflow(client: Client, queue: str) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            jobs.Upserter.run,
            jobs.EchoInput(tenant_id="acme"),
            id="acme/echo.upserter/1",
            task_queue=queue,
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "TenantMismatch"
