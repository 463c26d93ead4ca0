"""An activity runs for tenants that may run its job now; for others the error says why."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Worker

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core.directory import CachedDirectory, Tenant, TenantStatus
from temporal_tenancy.core.scope import TenantScope, current_scope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.interceptors._activity_inbound import TenancyActivityInbound
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import marks


async def run(client: Client, queue: str, job: Any, tenant: str, key: str) -> Any:
    name = job.__temporal_workflow_definition.name
    return await client.execute_workflow(
        name, jobs.EchoInput(tenant_id=tenant), id=f"{tenant}/{name}/{key}", task_queue=queue
    )


async def refusal(client: Client, queue: str, job: Any, tenant: str) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await run(client, queue, job, tenant, queue)
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.non_retryable
    return cause


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("job", "tenant", "error_type", "sentence"),
    [
        (jobs.Echo, "sleepy", "TenantSuspended", "Resume it to run its jobs."),
        (jobs.Echo, "leaving", "TenantOffboarding", "leaving is being offboarded since"),
        (jobs.Echo, "gone", "TenantOffboarding", "gone is deleted since"),
        (jobs.Report, "globex", "FeatureNotEnabled", "needs the feature 'reports'"),
        (jobs.Farewell, "acme", "TenantSuspended", "runs only for tenants that are offboarding"),
    ],
)
async def test_a_tenant_that_may_not_run_the_job_is_refused_before_any_activity_code(
    client: Client, queue: str, job: Any, tenant: str, error_type: str, sentence: str
) -> None:
    cause = await refusal(client, queue, job, tenant)
    assert cause.type == error_type
    assert sentence in cause.message
    assert not any(marks.of(f"{tenant}/{job}/{queue}"))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("job", "tenant"),
    [(jobs.Echo, "newcomer"), (jobs.Report, "acme"), (jobs.Farewell, "leaving")],
)
async def test_a_tenant_that_may_run_the_job_does(
    client: Client, queue: str, job: Any, tenant: str
) -> None:
    assert await run(client, queue, job, tenant, "1") == tenant


@pytest.mark.usefixtures("worker")
async def test_an_unknown_tenant_is_refused(raw_client: Client, queue: str) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await raw_client.execute_workflow(
            "echo.tell", {"tenant_id": "nobody"}, id="nobody/echo.tell/1", task_queue=queue
        )
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "TenantUnknown"


@pytest.mark.usefixtures("worker")
async def test_a_suspension_stops_the_next_attempt_of_a_running_job(
    client: Client, queue: str, directory: InMemoryDirectory
) -> None:
    handle = await client.start_workflow(
        jobs.Mailbox.run,
        jobs.EchoInput(tenant_id="acme"),
        id=f"acme/echo.mailbox/{queue}",
        task_queue=queue,
    )
    assert await handle.execute_update(jobs.Mailbox.change, jobs.Note()) == "acme"
    directory.set_status("acme", TenantStatus.SUSPENDED)
    with pytest.raises(Exception, match="Workflow update failed") as caught:
        await handle.execute_update(jobs.Mailbox.change, jobs.Note())
    assert "acme is suspended since" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]
    await handle.terminate()


async def test_a_worker_without_a_directory_runs_nothing_for_a_tenant(
    temporal: TemporalDevServer, queue: str
) -> None:
    plugin = TenancyPlugin(passthrough=["tests.fixtures.jobs.marks"], exempt=jobs.EXEMPT)
    client = await Client.connect(temporal.address, plugins=[plugin])
    async with Worker(
        client, task_queue=queue, workflows=[jobs.Echo], activities=[jobs.tell_tenant]
    ):
        cause = await refusal(client, queue, jobs.Echo, "acme")
    assert cause.type == "ScopeMissing"


async def test_an_activity_of_a_job_this_worker_does_not_know_waits_for_one_that_does(
    directory: InMemoryDirectory,
) -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        ActivityEnvironment.default_info(),
        workflow_id="acme/of_a_newer.release/1",
        workflow_type="of_a_newer.release",
    )
    inbound = TenancyActivityInbound(Unreachable(), directory)
    call = ExecuteActivityInput(
        fn=jobs.tell_tenant,
        args=[jobs.Note()],
        executor=None,
        headers=header.write({}, TenantScope("acme")),
    )
    with pytest.raises(ApplicationError, match="does not know the job") as caught:
        await environment.run(inbound.execute_activity, call)
    assert (caught.value.type, caught.value.non_retryable) == ("UnknownJob", False)


class Unreachable(ActivityInboundInterceptor):
    """The end of a chain that must not be reached."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        raise AssertionError("the activity ran")


class Slow(InMemoryDirectory):
    looked = 0

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        self.looked += 1
        found = await super().find_many(tenant_ids)
        await asyncio.sleep(0)
        return found


async def test_the_state_is_cached_for_five_seconds_at_most() -> None:
    now = [0.0]
    slow = Slow([make_tenant("acme")])
    cached = CachedDirectory(slow, clock=lambda: now[0])
    for _ in range(3):
        await cached.find("acme")
    assert slow.looked == 1
    now[0] = 4.99
    await cached.find("acme")
    assert slow.looked == 1
    now[0] = 5.0
    await cached.find("acme")
    assert slow.looked == 2
    with pytest.raises(ValueError, match="0 to 5 s, not"):
        CachedDirectory(slow, seconds=6)


async def test_tenants_that_were_looked_up_together_are_remembered_each() -> None:
    now = [0.0]
    slow = Slow([make_tenant("acme"), make_tenant("globex")])
    cached = CachedDirectory(slow, clock=lambda: now[0])
    await cached.find_many(["acme", "globex"])
    await cached.find("globex")
    assert slow.looked == 1
    slow.set_status("globex", TenantStatus.SUSPENDED)
    now[0] = 5.0
    found = await cached.find("globex")
    assert found is not None
    assert found.status is TenantStatus.SUSPENDED


async def test_tenants_that_are_asked_for_in_one_moment_are_one_question() -> None:
    slow = Slow([make_tenant(f"t{number}") for number in range(20)])
    cached = CachedDirectory(slow)
    ids = [*slow.tenants, "nobody", "t3"]
    found = await asyncio.gather(*(cached.find(each) for each in ids))
    assert [tenant and tenant.id for tenant in found] == [*slow.tenants, None, "t3"]
    assert slow.looked == 1


async def test_what_several_tenants_ask_is_asked_in_none_of_their_scopes() -> None:
    class Watching(Slow):
        scopes: list[object] = []

        async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
            self.scopes.append(current_scope())
            return await super().find_many(tenant_ids)

    watching = Watching([make_tenant("acme")])
    with enter(TenantScope("acme")):
        await CachedDirectory(watching).find("acme")
    assert watching.scopes == [None]


async def test_one_who_asked_too_and_is_cancelled_leaves_the_others_their_answer() -> None:
    slow = Slow([make_tenant("acme"), make_tenant("globex")])
    cached = CachedDirectory(slow)
    first, second = (asyncio.create_task(cached.find(each)) for each in ("acme", "globex"))
    await asyncio.sleep(0)
    first.cancel()
    found = await second
    assert found is not None
    assert (found.id, first.cancelled()) == ("globex", True)


async def test_a_directory_that_is_away_fails_those_who_asked_and_not_who_asks_later() -> None:
    class Away(Slow):
        async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
            if not await super().find_many([]) and self.looked == 1:
                raise ConnectionError("away")
            return await super().find_many(tenant_ids)

    cached = CachedDirectory(Away([make_tenant("acme")]))
    failed = await asyncio.gather(*(cached.find("acme") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in failed] == [ConnectionError] * 3
    assert await cached.find("acme") is not None


async def test_an_unknown_tenant_is_not_remembered_as_unknown() -> None:
    slow = Slow()
    cached = CachedDirectory(slow)
    assert await cached.find("acme") is None
    slow.add(make_tenant("acme"))
    assert await cached.find("acme") is not None


@pytest.mark.usefixtures("worker")
async def test_five_hundred_mixed_activities_each_run_in_their_own_tenant_and_leave_nothing(
    client: Client, queue: str, directory: InMemoryDirectory
) -> None:
    tenants = [f"t{number}" for number in range(25)]
    directory.add(*(make_tenant(tenant) for tenant in tenants))
    results = await asyncio.gather(
        *(
            client.execute_workflow(
                jobs.Mixed.run,
                jobs.MixedInput(tenant_id=tenant, rounds=5),
                id=f"{tenant}/echo.mixed/{queue}",
                task_queue=queue,
            )
            for tenant in tenants
        )
    )
    for tenant, seen in zip(tenants, results, strict=True):
        assert seen == [tenant] * 20
    assert current_scope() is None
    assert marks.of("scope left behind") == []
