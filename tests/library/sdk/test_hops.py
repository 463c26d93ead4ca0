"""Every hop carries the tenant, and no hop changes it."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import (
    ResetWorkflowExecutionRequest,
    StartActivityExecutionRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import (
    ActivityFailureError,
    Client,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from temporal_tenancy.core.errors import HopRefused
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.interceptors._hooks import HOOKS, Handling
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import marks

pytestmark = pytest.mark.usefixtures("worker")


def hooks_of(sdk_class: type) -> set[str]:
    """Returns the public methods of one of the SDK's interceptors, including inherited ones."""
    return {
        name
        for name, member in inspect.getmembers(sdk_class, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("sdk_class", "own_class", "table"), HOOKS, ids=lambda value: "")
def test_every_hook_of_the_sdk_is_handled_or_exempted_with_a_reason(
    sdk_class: type, own_class: type | None, table: dict[str, Any]
) -> None:
    assert hooks_of(sdk_class) == set(table)
    for name, hook in table.items():
        assert hook.why
        overridden = own_class is not None and name in vars(own_class)
        assert overridden == (hook.handling is not Handling.EXEMPT), name


EVERY_HOP = {
    "run": "acme",
    "activity": "acme",
    "sync activity": "acme",
    "local activity": "acme",
    "retried activity": "acme",
    "platform activity": "the platform (changes a tenant's record) about acme",
    "child": "acme",
    "signals": ["signal child: acme acme", "signal external: acme acme"],
    "task": "acme",
}


async def test_every_hop_has_the_tenant_also_after_continue_as_new(
    client: Client, queue: str
) -> None:
    seen = await client.execute_workflow(
        jobs.Hops.run, jobs.HopsInput(tenant_id="acme"), id="acme/echo.hops/1", task_queue=queue
    )
    assert seen == EVERY_HOP


async def test_every_hop_has_the_tenant_after_a_start_without_header(
    raw_client: Client, queue: str
) -> None:
    seen = await raw_client.execute_workflow(
        "echo.hops", {"tenant_id": "acme"}, id="acme/echo.hops/raw", task_queue=queue
    )
    assert seen == EVERY_HOP


async def test_what_a_workflow_sends_says_whose_it_is(client: Client, queue: str) -> None:
    workflow_id = f"acme/echo.hops/{queue}"
    await client.execute_workflow(
        jobs.Hops.run, jobs.HopsInput(tenant_id="acme"), id=workflow_id, task_queue=queue
    )
    continued = await client.get_workflow_handle(workflow_id).fetch_history()
    mailbox = await client.get_workflow_handle("acme/echo.mailbox/hop").fetch_history()
    carried = [
        continued.events[0].workflow_execution_started_event_attributes.header,
        *(
            event.workflow_execution_signaled_event_attributes.header
            for event in mailbox.events
            if event.HasField("workflow_execution_signaled_event_attributes")
        ),
    ]
    scopes = [header.read(each.fields) for each in carried]
    assert scopes == [TenantScope("acme")] * 4  # continued as new, and signalled three times


async def test_each_attempt_of_an_activity_runs_in_the_tenant(client: Client, queue: str) -> None:
    await client.execute_workflow(
        jobs.Hops.run,
        jobs.HopsInput(tenant_id="acme", depth=1),
        id="acme/echo.hops/attempts",
        task_queue=queue,
    )
    assert [m for m in marks.of("acme/echo.hops/attempts") if m.startswith("attempt")] == [
        "attempt 1:acme",
        "attempt 2:acme",
        "attempt 3:acme",
    ]


async def test_a_retry_of_the_workflow_runs_in_the_tenant(raw_client: Client, queue: str) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await raw_client.execute_workflow(
            "echo.flaky",
            {"tenant_id": "acme"},
            id="acme/echo.flaky/1",
            task_queue=queue,
            retry_policy=RetryPolicy(
                maximum_attempts=3, initial_interval=timedelta(milliseconds=10)
            ),
        )
    assert isinstance(caught.value.cause, ApplicationError)
    assert marks.of("acme/echo.flaky/1") == ["activity:acme"] * 3


async def test_a_reset_run_goes_on_in_the_tenant(
    client: Client, raw_client: Client, queue: str
) -> None:
    for sender, key in ((client, "reset"), (raw_client, "reset-raw")):
        workflow_id = f"acme/echo.tell/{key}"
        handle = await sender.start_workflow(
            "echo.tell", {"tenant_id": "acme"}, id=workflow_id, task_queue=queue
        )
        await handle.result()
        response = await sender.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=sender.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                workflow_task_finish_event_id=4,
                request_id=key,
                reason="test",
            )
        )
        again = sender.get_workflow_handle(workflow_id, run_id=response.run_id)
        assert await again.result() == "acme"


STRAYS = [
    ("child", "TenantMismatch"),
    ("child id", "TenantMismatch"),
    ("unknown child", "TenantMismatch"),
    ("platform child", "TenantMismatch"),
    ("activity", "TenantMismatch"),
    ("platform activity", "ScopeMissing"),
    ("platform activity about another", "TenantMismatch"),
    ("signal", "TenantMismatch"),
    ("continue as new", "TenantMismatch"),
    ("continue as another job", "TenantMismatch"),
    ("nexus", "HopRefused"),
]


@pytest.mark.parametrize(("how", "error_type"), STRAYS, ids=[how for how, _ in STRAYS])
async def test_no_hop_leaves_the_tenant(
    client: Client, queue: str, how: str, error_type: str
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            jobs.Stray.run,
            jobs.StrayInput(tenant_id="acme", how=how),
            id=f"acme/echo.stray/{how}",
            task_queue=queue,
        )
    cause: BaseException | None = caught.value.cause
    if isinstance(cause, ActivityError):
        cause = cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == error_type, cause


@pytest.mark.parametrize(
    "how", ["a mapping", "a list", "a list of inputs", "a second argument", "a child"]
)
async def test_nothing_a_tenant_sends_names_another(client: Client, queue: str, how: str) -> None:
    assert (await about_others(client, queue, how)).type == "TenantMismatch"


async def test_a_value_that_fits_no_model_is_not_repeated_in_the_history(
    client: Client, queue: str
) -> None:
    failure = await about_others(client, queue, "a value")
    assert failure.type == "ValidationError"
    assert "pin: it must be a whole number" in failure.message
    history = await client.get_workflow_handle(f"acme/echo.about_others/{queue}").fetch_history()
    assert "4111" not in history.to_json()


async def about_others(client: Client, queue: str, how: str) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            jobs.AboutOthers.run,
            jobs.AboutOthersInput(tenant_id="acme", how=how),
            id=f"acme/echo.about_others/{queue}",
            task_queue=queue,
        )
    cause: BaseException | None = caught.value.cause
    while not isinstance(cause, ApplicationError):
        assert cause is not None
        cause = cause.__cause__
    return cause


async def test_a_run_reads_like_a_sentence_while_it_works_and_after(
    client: Client, queue: str
) -> None:
    handle = await client.start_workflow(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.mailbox/{queue}",
        task_queue=queue,
    )
    described = await handle.describe()
    assert await described.static_summary() == f"echo.mailbox for acme: {queue}"
    assert (await described.static_details() or "").startswith("Handles messages until")
    assert await details_of(handle) == f"echo.mailbox for acme, {queue}: at work."
    await handle.signal(jobs.Mailbox.end)
    await handle.result()
    assert await details_of(handle) == f"echo.mailbox for acme, {queue}: done."


async def details_of(handle: WorkflowHandle[Any, Any]) -> str:
    metadata: WorkflowMetadata = await handle.query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return metadata.current_details


async def test_a_failed_runs_details_say_why(client: Client, queue: str) -> None:
    workflow_id = f"acme/echo.flaky/{queue}"
    with pytest.raises(WorkflowFailureError):
        await client.execute_workflow(
            jobs.Flaky.run, jobs.EchoInput(tenant_id="acme"), id=workflow_id, task_queue=queue
        )
    details = await details_of(client.get_workflow_handle(workflow_id))
    assert details == f"echo.flaky for acme, {queue}: failed. ApplicationError: always"


async def test_no_activity_is_executed_eagerly(worker: Worker) -> None:
    assert worker.config(active_config=True)["disable_eager_activity_execution"]


async def test_no_start_is_eager_though_its_caller_asks_for_it(
    client: Client, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    start = client.workflow_service.start_workflow_execution

    async def noted(request: StartWorkflowExecutionRequest, **options: Any) -> Any:
        asked.append(request.request_eager_execution)
        return await start(request, **options)

    monkeypatch.setattr(client.workflow_service, "start_workflow_execution", noted)
    await client.start_workflow(
        jobs.Echo.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.tell/{queue}",
        task_queue=queue,
        request_eager_start=True,
    )
    assert asked == [False]


async def test_a_standalone_activity_is_refused(client: Client, queue: str) -> None:
    with pytest.raises(HopRefused, match="standalone"):
        await client.start_activity(
            jobs.tell_tenant,
            jobs.Note(),
            id="a",
            task_queue=queue,
            start_to_close_timeout=jobs.SOON,
        )


async def test_a_standalone_activity_of_a_raw_client_is_refused_by_the_worker(
    raw_client: Client, queue: str
) -> None:
    with pytest.raises(ActivityFailureError) as caught:
        await raw_client.execute_activity(
            "tell_tenant",
            {},
            id="raw-standalone",
            task_queue=queue,
            start_to_close_timeout=jobs.SOON,
        )
    cause = caught.value.__cause__
    assert isinstance(cause, ApplicationError)
    assert cause.type == "HopRefused"


async def test_the_server_gives_a_workflow_and_an_activity_the_same_id(
    raw_client: Client, queue: str
) -> None:
    """If it does no longer, docs/explanation/standalone-activities.md is to be decided again."""
    key, nobodys = "acme/echo.hops/both", f"nobody-{queue}"
    run = await raw_client.start_workflow("echo.hops", id=key, task_queue=nobodys)
    alone = await raw_client.start_activity(
        "echo.hops", id=key, task_queue=nobodys, start_to_close_timeout=jobs.SOON
    )
    assert (await run.describe()).id == (await alone.describe()).activity_id == key
    await run.terminate()
    await alone.terminate()


def test_a_standalone_activity_has_neither_a_version_nor_a_memo() -> None:
    fields = {field.name for field in StartWorkflowExecutionRequest.DESCRIPTOR.fields}
    lacking = fields - {field.name for field in StartActivityExecutionRequest.DESCRIPTOR.fields}
    assert {"versioning_override", "memo"} <= lacking


async def test_the_platform_enters_a_tenant_only_by_naming_it(client: Client, queue: str) -> None:
    seen = await client.execute_workflow(
        jobs.Platform.run,
        jobs.PlatformNote(enter="acme"),
        id="platform/echo.platform/enter",
        task_queue=queue,
    )
    assert seen == [
        "the platform (tests the platform's scope)",
        "the platform (tells the scope it runs in)",
        "acme",
        "acme",
    ]


async def test_a_tenants_activity_is_refused_to_the_platform_without_a_name(
    client: Client, queue: str
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await client.execute_workflow(
            jobs.Platform.run,
            jobs.PlatformNote(text="unnamed"),
            id="platform/echo.platform/unnamed",
            task_queue=queue,
        )
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "TenantMissing"


async def test_fairness_key_weight_and_priority_are_the_tenants_the_plans_and_the_jobs(
    client: Client, queue: str
) -> None:
    own, of_activity = await client.execute_workflow(
        jobs.Fairness.run,
        jobs.EchoInput(tenant_id="acme"),
        id="acme/echo.fairness/1",
        task_queue=queue,
    )
    assert own == of_activity == ["acme", 5.0, 2]


async def test_a_tenants_code_takes_no_other_tenants_share_and_no_larger_one(
    client: Client, queue: str
) -> None:
    greedy = Priority(fairness_key="globex", fairness_weight=1000.0, priority_key=4)
    with enter(TenantScope("acme")):
        handle = await client.start_workflow(
            jobs.Greedy.run,
            jobs.EchoInput(tenant_id="acme"),
            id="acme/echo.greedy/1",
            task_queue=queue,
            priority=greedy,
        )
    kept = (await handle.describe()).raw_description.workflow_execution_info.priority
    assert (kept.priority_key, kept.fairness_key, kept.fairness_weight) == (4, "acme", 5.0)
    for named in await handle.result():
        assert named[:2] == ["acme", 5.0]


async def test_an_activity_has_its_fairness_key_after_a_start_without_one(
    raw_client: Client, queue: str
) -> None:
    own, of_activity = await raw_client.execute_workflow(
        "echo.fairness", {"tenant_id": "acme"}, id="acme/echo.fairness/raw", task_queue=queue
    )
    assert own[0] is None
    assert of_activity[0] == "acme"


async def test_a_child_has_its_own_fairness_key_and_not_its_parents(
    client: Client, queue: str
) -> None:
    children = await client.execute_workflow(
        jobs.FairnessOfChildren.run,
        jobs.FairnessOfChildrenInput(tenants=["acme", "globex"]),
        id="platform/echo.fairness_of_children/1",
        task_queue=queue,
    )
    assert [child[0][0] for child in children] == ["acme", "globex"]
    assert [child[1][0] for child in children] == ["acme", "globex"]
