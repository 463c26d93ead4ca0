"""A start is correct, or it fails at once, before any of the job's code."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
)
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.worker import Worker

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, enter
from temporal_tenancy.sdk import header
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import marks
from tests.fixtures.temporal import make_worker
from tests.fixtures.tenant_columns import own_tenant_types

pytestmark = pytest.mark.usefixtures("worker")


def header_interceptor(scope: Scope | bytes) -> Any:
    """A forger: sets a header on every start and message of a client without the plugin."""
    from temporalio import client

    if isinstance(scope, bytes):
        forged = {header.NAME: Payload(metadata={"encoding": b"json/plain"}, data=scope)}
    else:
        forged = header.write({}, scope)

    class Outbound(client.OutboundInterceptor):
        async def start_workflow(self, input: Any) -> Any:
            input.headers = forged
            return await super().start_workflow(input)

        async def signal_workflow(self, input: Any) -> None:
            input.headers = forged
            await super().signal_workflow(input)

        async def query_workflow(self, input: Any) -> Any:
            input.headers = forged
            return await super().query_workflow(input)

        async def start_workflow_update(self, input: Any) -> Any:
            input.headers = forged
            return await super().start_workflow_update(input)

        async def start_update_with_start_workflow(self, input: Any) -> Any:
            input.start_workflow_input.headers = forged
            input.update_workflow_input.headers = forged
            return await super().start_update_with_start_workflow(input)

    class Forger(client.Interceptor):
        def intercept_client(self, next: Any) -> Any:
            return Outbound(next)

    return Forger()


async def forger(raw_client: Client, scope: Scope | bytes) -> Client:
    address = raw_client.service_client.config.target_host
    return await Client.connect(address, interceptors=[header_interceptor(scope)])


async def failure_of(
    client: Client, workflow: str, args: list[Any], *, id: str, queue: str, **options: Any
) -> ApplicationError:
    """Starts a workflow that must fail, and returns the reason."""
    handle = await client.start_workflow(workflow, args=args, id=id, task_queue=queue, **options)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.non_retryable
    return caught.value.cause


async def test_a_start_by_the_client_runs_in_its_tenant(client: Client, queue: str) -> None:
    result = await client.execute_workflow(
        jobs.Echo.run,
        jobs.EchoInput(tenant_id="acme"),
        id="acme/echo.tell/1",
        task_queue=queue,
    )
    assert result == "acme"


async def test_a_start_without_header_or_attribute_takes_both_from_the_input(
    raw_client: Client, queue: str
) -> None:
    handle = await raw_client.start_workflow(
        "echo.tell", {"tenant_id": "acme"}, id="acme/echo.tell/raw", task_queue=queue
    )
    assert await handle.result() == "acme"
    described = await handle.describe()
    attributes = described.typed_search_attributes
    assert attributes.get(SearchAttributeKey.for_keyword("TenantId")) == "acme"
    assert attributes.get(SearchAttributeKey.for_keyword("Job")) == "echo.tell"


async def test_ids_that_differ_by_case_are_two_tenants(
    client: Client, directory: InMemoryDirectory, queue: str
) -> None:
    directory.tenants["ACME"] = make_tenant("ACME")
    handles = [
        await client.start_workflow(
            "echo.tell", {"tenant_id": tenant}, id=f"{tenant}/echo.tell/{queue}", task_queue=queue
        )
        for tenant in ("acme", "ACME")
    ]
    assert [await handle.result() for handle in handles] == ["acme", "ACME"]
    for tenant, other in (("acme", "ACME"), ("ACME", "acme")):
        with enter(TenantScope(tenant)), pytest.raises(TenancyError):
            await client.get_workflow_handle(f"{other}/echo.tell/{queue}").describe()


async def test_unknown_fields_are_no_complaint_of_a_worker(raw_client: Client, queue: str) -> None:
    result = await raw_client.execute_workflow(
        "echo.tell",
        {"tenant_id": "acme", "of_a_newer_release": 1},
        id="acme/echo.tell/newer",
        task_queue=queue,
    )
    assert result == "acme"


WRONG_STARTS: list[tuple[str, list[Any], str, str, str]] = [
    ("no argument", [], "acme/echo.marked/a", "TenantMissing", 'Add "tenant_id".'),
    ("null", [None], "acme/echo.marked/b", "TenantMissing", "echo.marked names no tenant"),
    ("two", [{"tenant_id": "acme"}, 2], "acme/echo.marked/c", "InvalidPayload", "takes 1 input"),
    ("no tenant", [{"text": "x"}], "acme/echo.marked/d", "TenantMissing", 'Add "tenant_id".'),
    ("null tenant", [{"tenant_id": None}], "acme/echo.marked/e", "TenantMissing", "no tenant"),
    ("empty tenant", [{"tenant_id": ""}], "acme/echo.marked/f", "TenantMissing", "no tenant"),
    ("a list", [["acme"]], "acme/echo.marked/g", "InvalidPayload", "does not fit"),
    ("a number", [7], "acme/echo.marked/h", "InvalidPayload", "does not fit"),
    ("wrong field", [{"tenant_id": "acme", "text": [1]}], "acme/echo.marked/i", "InvalidPayload",
     "text: it must be text."),
    ("star", [{"tenant_id": "*"}], "acme/echo.marked/j", "TenantInvalid", "not a tenant id"),
    ("slash", [{"tenant_id": "a/b"}], "acme/echo.marked/k", "TenantInvalid", "not a tenant id"),
    ("space", [{"tenant_id": "a b"}], "acme/echo.marked/l", "TenantInvalid", "not a tenant id"),
    ("another case", [{"tenant_id": "Acme"}], "acme/echo.marked/m", "TenantMismatch",
     "belongs to acme, but the input says Acme"),
    ("another case's id", [{"tenant_id": "acme"}], "ACME/echo.marked/m", "TenantMismatch",
     "belongs to ACME, but the input says acme"),
    ("PLATFORM", [{"tenant_id": "PLATFORM"}], "acme/echo.marked/o2", "TenantInvalid", "reserved"),
    ("Platform's id", [{"tenant_id": "acme"}], "Platform/echo.marked/m", "TenantMismatch",
     "reserved"),
    ("64 bytes", [{"tenant_id": "a" * 64}], "acme/echo.marked/n", "TenantInvalid", "63"),
    ("platform", [{"tenant_id": "platform"}], "acme/echo.marked/o", "TenantInvalid", "reserved"),
    ("a number for a tenant", [{"tenant_id": 7}], "acme/echo.marked/p", "TenantInvalid", "int"),
    ("another's id", [{"tenant_id": "globex"}], "acme/echo.marked/q", "TenantMismatch",
     'belongs to acme, but the input says globex. Start it as "globex/echo.marked/<key>"'),
    ("the platform's id", [{"tenant_id": "acme"}], "platform/echo.marked/r", "TenantMismatch",
     "belongs to the platform"),
    ("another job's id", [{"tenant_id": "acme"}], "acme/echo.tell/s", "TenantMismatch",
     "names the job echo.tell, but this is echo.marked"),
    ("the Web UI's random id", [{"tenant_id": "acme"}], "7f1c9a52-0d6f", "TenantMismatch",
     'Start it as "acme/echo.marked/<key>"'),
    ("no key", [{"tenant_id": "acme"}], "acme/echo.marked/", "TenantMismatch", "<key>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "workflow_id", "error_type", "sentence"),
    [case[1:] for case in WRONG_STARTS],
    ids=[case[0] for case in WRONG_STARTS],
)
async def test_a_wrong_start_fails_at_once_and_runs_nothing(
    raw_client: Client,
    queue: str,
    args: list[Any],
    workflow_id: str,
    error_type: str,
    sentence: str,
) -> None:
    failure = await failure_of(raw_client, "echo.marked", args, id=workflow_id, queue=queue)
    assert failure.type == error_type
    assert sentence in failure.message
    assert marks.of(workflow_id) == []


async def test_a_second_spelling_of_an_id_is_refused_by_worker_and_client(
    client: Client, raw_client: Client, directory: InMemoryDirectory, queue: str
) -> None:
    directory.tenants |= {"7": make_tenant("7"), "07": make_tenant("07")}
    with own_tenant_types("bigint"):
        workflow_id = f"07/echo.marked/{queue}"
        failure = await failure_of(
            raw_client, "echo.marked", [{"tenant_id": "07"}], id=workflow_id, queue=queue
        )
        assert failure.type == "TenantInvalid"
        assert "'07' is not a bigint as PostgreSQL writes it" in failure.message
        assert marks.of(workflow_id) == []
        with pytest.raises(TenancyError):
            await client.start_workflow(
                "echo.tell", {"tenant_id": "07"}, id=f"07/echo.tell/{queue}", task_queue=queue
            )
        handle = await client.start_workflow(
            "echo.tell", {"tenant_id": "7"}, id=f"7/echo.tell/{queue}", task_queue=queue
        )
        assert await handle.result() == "7"


async def test_a_refusal_repeats_no_value_of_the_input(raw_client: Client, queue: str) -> None:
    secret = "hunter2-" * 3
    failure = await failure_of(
        raw_client,
        "echo.marked",
        [{"tenant_id": "acme", "text": {"password": secret}}],
        id="acme/echo.marked/secret",
        queue=queue,
    )
    assert secret not in str(failure)
    assert secret not in json.dumps([failure.message, list(failure.details)])


FORGED: list[tuple[str, Scope | bytes, str]] = [
    ("another tenant", TenantScope("globex"), "the header says globex"),
    ("the platform", PlatformScope("I say so"), "the header says platform"),
    ("nonsense", b"[1]", "neither a tenant nor the platform"),
    ("not JSON", b"\xff\xfe", "neither a tenant nor the platform"),
    ("no tenant id", b'"*"', "neither a tenant nor the platform"),
    ("deeply nested", b"[" * 100_000, "neither a tenant nor the platform"),
]


@pytest.mark.parametrize(
    ("scope", "sentence"), [case[1:] for case in FORGED], ids=[case[0] for case in FORGED]
)
async def test_a_start_with_a_forged_header_leaves_no_mark(
    raw_client: Client, queue: str, scope: Scope | bytes, sentence: str
) -> None:
    workflow_id = f"acme/echo.marked/forged-{uuid.uuid4()}"
    failure = await failure_of(
        await forger(raw_client, scope),
        "echo.marked",
        [{"tenant_id": "acme"}],
        id=workflow_id,
        queue=queue,
    )
    assert failure.type == "TenantMismatch"
    assert sentence in failure.message
    assert marks.of(workflow_id) == []


async def test_a_signal_with_start_under_a_forged_header_leaves_no_mark(
    raw_client: Client, queue: str
) -> None:
    workflow_id = "acme/echo.marked/signal-with-start"
    failure = await failure_of(
        await forger(raw_client, TenantScope("globex")),
        "echo.marked",
        [{"tenant_id": "acme"}],
        id=workflow_id,
        queue=queue,
        start_signal="poke",
        start_signal_args=[{"text": "boo"}],
    )
    assert failure.type == "TenantMismatch"
    assert marks.of(workflow_id) == []


async def test_a_right_signal_with_start_leaves_every_mark(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        jobs.Marked.run,
        jobs.EchoInput(tenant_id="acme"),
        id="acme/echo.marked/right",
        task_queue=queue,
        start_signal="poke",
        start_signal_args=[jobs.Note()],
    )
    assert await handle.result() == "acme"
    assert marks.of("acme/echo.marked/right") == ["init", "signal", "run", "activity:acme"]


async def test_an_update_with_start_carries_the_tenant(client: Client, queue: str) -> None:
    start = WithStartWorkflowOperation(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id="acme/echo.mailbox/update-with-start",
        task_queue=queue,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    told = await client.execute_update_with_start_workflow(
        jobs.Mailbox.change, jobs.Note(), start_workflow_operation=start
    )
    assert told == "acme"
    handle = await start.workflow_handle()
    events = (await handle.fetch_history()).events
    carried = [
        started.workflow_execution_started_event_attributes.header.fields
        for started in events
        if started.HasField("workflow_execution_started_event_attributes")
    ] + [
        accepted.workflow_execution_update_accepted_event_attributes.accepted_request.input.header.fields
        for accepted in events
        if accepted.HasField("workflow_execution_update_accepted_event_attributes")
    ]
    assert [header.read(fields) for fields in carried] == [TenantScope("acme")] * 2
    await handle.signal(jobs.Mailbox.end)


async def test_a_wrong_update_with_start_is_refused_before_it_is_sent(
    client: Client, queue: str
) -> None:
    start = WithStartWorkflowOperation(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id="globex/echo.mailbox/update-with-start",
        task_queue=queue,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    with pytest.raises(TenancyError, match="belongs to globex, but the input says acme"):
        await client.execute_update_with_start_workflow(
            jobs.Mailbox.change, jobs.Note(), start_workflow_operation=start
        )


@pytest.mark.parametrize("given", ["hello", 7, None, [1]])
async def test_an_input_that_trips_a_models_own_validator_fails_the_start(
    raw_client: Client, queue: str, given: Any
) -> None:
    workflow_id = f"acme/echo.choosy/{uuid.uuid4()}"
    failure = await failure_of(raw_client, "echo.choosy", [given], id=workflow_id, queue=queue)
    assert failure.type in ("InvalidPayload", "TenantMissing")


async def test_an_exempted_workflow_has_no_scope_to_give(raw_client: Client, queue: str) -> None:
    for workflow_id in ("anything", "acme/x/y"):
        with pytest.raises(WorkflowFailureError) as caught:
            await raw_client.execute_workflow(
                "third_party.in_tenancy", id=workflow_id, task_queue=queue
            )
        assert isinstance(caught.value.cause, ActivityError)
        assert isinstance(caught.value.cause.cause, ApplicationError)
        assert caught.value.cause.cause.type == "ScopeMissing"


async def test_an_exempted_activity_runs_outside_any_scope_also_where_the_worker_was_made_in_one(
    client: Client, raw_client: Client
) -> None:
    queue = f"test-{uuid.uuid4()}"
    with enter(TenantScope("globex")):
        async with make_worker(client, queue):
            told = await raw_client.execute_workflow(
                "third_party.workflow", id=f"any-{queue}", task_queue=queue
            )
    assert told == "None"


async def test_one_runs_memory_is_not_the_nexts(client: Client, queue: str) -> None:
    for tenant in ("acme", "globex"):
        seen = await client.execute_workflow(
            jobs.Remember.run,
            jobs.EchoInput(tenant_id=tenant),
            id=f"{tenant}/echo.remember/{queue}",
            task_queue=queue,
        )
        assert seen == [tenant]


async def test_a_wrong_search_attribute_fails_the_start(raw_client: Client, queue: str) -> None:
    attributes = TypedSearchAttributes(
        [SearchAttributePair(SearchAttributeKey.for_keyword("TenantId"), "globex")]
    )
    failure = await failure_of(
        raw_client,
        "echo.marked",
        [{"tenant_id": "acme"}],
        id="acme/echo.marked/attribute",
        queue=queue,
        search_attributes=attributes,
    )
    assert failure.type == "TenantMismatch"
    assert "search attribute TenantId globex" in failure.message
    assert IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    assert marks.of("acme/echo.marked/attribute") == []


async def test_a_query_of_a_refused_run_answers_with_the_refusal(
    raw_client: Client, queue: str
) -> None:
    await failure_of(raw_client, "echo.mailbox", [{}], id="acme/echo.mailbox/q", queue=queue)
    with pytest.raises(Exception, match="names no tenant"):
        await raw_client.get_workflow_handle("acme/echo.mailbox/q").query("peek")
    assert marks.of("acme/echo.mailbox/q") == []


@pytest.mark.parametrize(
    ("workflow", "args", "workflow_id", "error_type"),
    [
        ("echo.tell", [{"tenant_id": "globex"}], "acme/echo.tell/x", "TenantMismatch"),
        ("echo.tell", [{"tenant_id": "acme"}], "random", "TenantMismatch"),
        ("echo.tell", [{"text": ""}], "acme/echo.tell/x", "TenantMissing"),
        ("echo.tell", [], "acme/echo.tell/x", "TenantMissing"),
        ("echo.tell", [{"tenant_id": "acme", "new": 1}], "acme/echo.tell/x", "InvalidPayload"),
        ("echo.tell", [{"tenant_id": "a*"}], "acme/echo.tell/x", "TenantInvalid"),
        ("echo.tell", [{"tenant_id": "nobody"}], "nobody/echo.tell/x", "TenantUnknown"),
        ("echo.sweep", [{}], "platform/echo.sweep/x", "InvalidPayload"),
        ("echo.platform", [{}], "acme/echo.platform/x", "TenantMismatch"),
    ],
)
async def test_the_client_refuses_a_wrong_start_before_it_is_sent(
    client: Client, queue: str, workflow: str, args: list[Any], workflow_id: str, error_type: str
) -> None:
    with pytest.raises(TenancyError) as caught:
        await client.start_workflow(workflow, args=args, id=workflow_id, task_queue=queue)
    assert type(caught.value).__name__ == error_type


async def test_a_tenants_code_cannot_start_another_tenants_work(client: Client, queue: str) -> None:
    with enter(TenantScope("globex")), pytest.raises(TenancyError, match="globex cannot start"):
        await client.start_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id="acme"),
            id="acme/echo.tell/foreign",
            task_queue=queue,
        )


async def test_a_platform_run_takes_no_tenants_id(raw_client: Client, queue: str) -> None:
    failure = await failure_of(
        raw_client, "echo.platform", [{}], id="acme/echo.platform/1", queue=queue
    )
    assert failure.type == "TenantMismatch"
    assert "echo.platform is the platform's" in failure.message


async def test_a_job_without_input_runs(client: Client, queue: str, worker: Worker) -> None:
    told = await client.execute_workflow(
        jobs.Sweep.run, id="platform/echo.sweep/1", task_queue=queue
    )
    assert told == "the platform (takes no input)"


async def test_an_exempted_workflow_runs_without_any_scope(raw_client: Client, queue: str) -> None:
    told = await raw_client.execute_workflow("third_party.workflow", id="any", task_queue=queue)
    assert told == "None"


async def test_a_wrong_start_with_a_cron_schedule_ends_after_its_second_run(
    raw_client: Client, queue: str
) -> None:
    """The server would start it again for ever: after a failure, and after a success too."""
    key = uuid.uuid4()
    started = await raw_client.start_workflow(
        "echo.tell", {"tenant": "acme"}, id=f"acme/echo.tell/{key}", task_queue=queue,
        cron_schedule="@every 1s",
    )  # fmt: skip
    first = raw_client.get_workflow_handle(
        started.id, run_id=started.result_run_id, first_execution_run_id=started.result_run_id
    )
    with pytest.raises(
        WorkflowContinuedAsNewError
    ):  # the SDK says so of a run that another follows
        await first.result(follow_runs=False)
    [*_, closed] = (await first.fetch_history()).events
    failure = closed.workflow_execution_failed_event_attributes.failure
    assert failure.application_failure_info.type == "TenantMissing"
    with pytest.raises(WorkflowFailureError) as ended:
        async with asyncio.timeout(30):  # of a chain of runs without an end
            await first.result()
    assert isinstance(ended.value.cause, CancelledError)
    last = await raw_client.get_workflow_handle(started.id).describe()
    assert last.status is WorkflowExecutionStatus.CANCELED
    runs = [run async for run in raw_client.list_workflows(f'WorkflowId = "{started.id}"')]
    assert len(runs) == 2
