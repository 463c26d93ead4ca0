"""What a worker's own runs and attempts are observed as."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Replayer

from temporal_tenancy.core.observations import (
    AttemptEnded,
    Observation,
    Refused,
    RunEnded,
    Work,
    add_observer,
    remove_observer,
    working,
)
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.metrics._instruments import Instruments
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.temporal import make_worker


@pytest.fixture
def observed() -> Iterator[list[Observation]]:
    """What is observed during the test."""
    found: list[Observation] = []
    append = found.append
    add_observer(append)
    yield found
    remove_observer(append)


def workflow_id(job: str, tenant: str = "acme") -> str:
    return f"{tenant}/{job}/{uuid.uuid4()}"


async def test_a_job_is_observed_as_its_attempts_and_its_run(
    client: Client, queue: str, observed: list[Observation]
) -> None:
    async with make_worker(client, queue):
        await client.execute_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id="acme"),
            id=workflow_id("echo.tell"),
            task_queue=queue,
        )
    [attempt] = [each for each in observed if isinstance(each, AttemptEnded)]
    assert attempt.work == Work("acme", "enterprise", "echo.tell", queue)
    assert (attempt.outcome, attempt.error_type) == ("succeeded", None)
    assert 0 < attempt.seconds < 10
    [run] = [each for each in observed if isinstance(each, RunEnded)]
    assert (run.tenant_id, run.job, run.queue, run.outcome) == (
        *("acme", "echo.tell", queue),
        "succeeded",
    )
    assert attempt.seconds < run.seconds < 30
    assert working.get() is None


async def test_a_replay_is_not_observed(
    client: Client, plugin: TenancyPlugin, queue: str, observed: list[Observation]
) -> None:
    async with make_worker(client, queue):
        handle = await client.start_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id="acme"),
            id=workflow_id("echo.tell"),
            task_queue=queue,
        )
        await handle.result()
    observed.clear()
    await Replayer(workflows=[jobs.Echo], plugins=[plugin]).replay_workflow(
        await handle.fetch_history()
    )
    assert observed == []


async def test_each_kind_of_refusal_is_counted_where_it_happens(
    client: Client, raw_client: Client, queue: str, observed: list[Observation]
) -> None:
    async with make_worker(client, queue):
        with pytest.raises(WorkflowFailureError):  # by the guard, before any code
            await raw_client.execute_workflow(
                "echo.tell", {"text": "x"}, id=workflow_id("echo.tell"), task_queue=queue
            )
        with pytest.raises(WorkflowFailureError):  # by the activity's check of its tenant's state
            await client.execute_workflow(
                jobs.Echo.run,
                jobs.EchoInput(tenant_id="gone"),
                id=workflow_id("echo.tell", "gone"),
                task_queue=queue,
            )
        mailbox = await client.start_workflow(
            jobs.Mailbox.run,
            jobs.EchoInput(tenant_id="globex"),
            id=workflow_id("echo.mailbox", "globex"),
            task_queue=queue,
        )
        with enter(TenantScope("acme")), pytest.raises(Exception, match="globex"):
            await mailbox.cancel()
        await mailbox.signal(jobs.Mailbox.end)
        await mailbox.result()
    refused = [(each.where, each.error_type) for each in observed if isinstance(each, Refused)]
    assert refused == [
        ("workflow", "TenantMissing"),
        ("activity", "TenantOffboarding"),
        ("client", "TenantMismatch"),
    ]


async def test_another_tenants_signal_is_counted_once(
    client: Client, raw_client: Client, queue: str, observed: list[Observation]
) -> None:
    async with make_worker(client, queue):
        mailbox = await client.start_workflow(
            jobs.Mailbox.run,
            jobs.EchoInput(tenant_id="globex"),
            id=workflow_id("echo.mailbox", "globex"),
            task_queue=queue,
        )
        await forge_signal(raw_client, mailbox.id)
        await mailbox.signal(jobs.Mailbox.end)
        await mailbox.result()
    refused = [each for each in observed if isinstance(each, Refused)]
    assert refused == [Refused("TenantMismatch", "message")]


async def forge_signal(raw_client: Client, id: str) -> None:
    """Sends a signal with the header of `acme`, as code without the plugin can."""
    from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
    from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest

    request = SignalWorkflowExecutionRequest(
        namespace=raw_client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=id),
        signal_name="poke",
        input=Payloads(
            payloads=[Payload(metadata={"encoding": b"json/plain"}, data=b'{"text":"x"}')]
        ),
    )
    request.header.fields["tenancy-scope"].CopyFrom(
        Payload(metadata={"encoding": b"json/plain"}, data=b'"acme"')
    )
    await raw_client.workflow_service.signal_workflow_execution(request)


async def test_what_an_activitys_own_code_is_refused_is_counted(
    observed: list[Observation],
) -> None:
    instruments = Instruments(CollectorRegistry(), noisiest=1, version="1")
    work = Work("acme", "free", "echo.tell", "bulk")
    for kind in ("TenantMismatch", "NotNoted"):
        instruments.observe(AttemptEnded(work, "failed", 0.1, kind))
    text = instruments.text().decode()
    assert 'tenancy_refusals_total{type="TenantMismatch",where="activity"} 1.0' in text
    assert "NotNoted" not in text
