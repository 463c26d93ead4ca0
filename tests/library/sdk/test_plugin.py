"""The plugin rejects a worker that could lose a tenant when it is built, and says why."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from typing import Any, Self
from uuid import uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    JSONPlainPayloadConverter,
    PayloadCodec,
    PayloadConverter,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerConfig,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.directory import CachedDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.identifiers import TenantId
from temporal_tenancy.core.inputs import JobInput, PlatformInput, TenantInput
from temporal_tenancy.core.jobs import Coalesce, job_of, platform_job, registry, tenant_job
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.core.periods import Period
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.sdk._converter import PayloadDoesNotFit, compose
from temporal_tenancy.sdk._guard import is_guarded
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.testing import InMemoryDirectory
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.temporal import make_worker


@workflow.defn
class Unmarked:
    @workflow.run
    async def run(self) -> None: ...


@workflow.defn(dynamic=True)
class Dynamic:
    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None: ...


@activity.defn
async def unmarked_activity() -> None: ...


class NotATenantInput(TenantInput.__base__):  # type: ignore[name-defined, misc]
    tenant_id: str


@tenant_job("bad.input", queue="default")
class TakesSomethingElse:
    @workflow.run
    async def run(self, job: NotATenantInput) -> None: ...


@tenant_job("bad.two", queue="default")
class TakesTwo:
    @workflow.run
    async def run(self, job: jobs.EchoInput, more: str) -> None: ...


@tenant_job("bad.none", queue="default")
class TakesNone:
    @workflow.run
    async def run(self) -> None: ...


@tenant_job("bad.untyped", queue="default")
class TakesAnything:
    @workflow.run
    async def run(self, job) -> None: ...  # type: ignore[no-untyped-def]


class HasDefault(TenantInput):
    tenant_id: TenantId = "acme"


class MayBeNone(TenantInput):
    tenant_id: TenantId | None = None  # type: ignore[assignment]


class AnyString(TenantInput):
    tenant_id: str


class Aliased(TenantInput):
    tenant_id: TenantId = Field(alias="t")


class Mutable(TenantInput):
    model_config = ConfigDict(frozen=False)


class OfBothKinds(TenantInput, JobInput):
    pass


class TenantForPlatform(PlatformInput, TenantInput):
    pass


@tenant_job("bad.default", queue="default")
class TakesDefault:
    @workflow.run
    async def run(self, job: HasDefault) -> None: ...


@tenant_job("bad.optional", queue="default")
class TakesOptional:
    @workflow.run
    async def run(self, job: MayBeNone) -> None: ...


@tenant_job("bad.string", queue="default")
class TakesAnyString:
    @workflow.run
    async def run(self, job: AnyString) -> None: ...


@tenant_job("bad.alias", queue="default")
class TakesAlias:
    @workflow.run
    async def run(self, job: Aliased) -> None: ...


@tenant_job("bad.mutable", queue="default")
class TakesMutable:
    @workflow.run
    async def run(self, job: Mutable) -> None: ...


@tenant_job("bad.both", queue="default")
class TakesBoth:
    @workflow.run
    async def run(self, job: OfBothKinds) -> None: ...


@platform_job("bad.platform", reason="a test", queue="default")
class PlatformTakesTenant:
    @workflow.run
    async def run(self, job: TenantForPlatform) -> None: ...


class Unlooked(BaseModel):
    tenant_id: str


@tenant_activity
async def takes_unlooked(request: Unlooked) -> None: ...


@tenant_activity
async def takes_two(text: str, request: jobs.NamedNote) -> None: ...


@tenant_activity
async def takes_default(request: HasDefault) -> None: ...


@tenant_job("bad.period", queue="default", period=Period.MONTH)
class HasNoPeriod:
    @workflow.run
    async def run(self, job: jobs.EchoInput) -> None: ...


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workflows": [Unmarked]}, "the workflow Unmarked is not declared. Put @tenant_job"),
        ({"workflows": [Dynamic]}, "the workflow Dynamic is not declared"),
        ({"activities": [unmarked_activity]}, "the activity unmarked_activity is not declared"),
        ({"workflows": [TakesSomethingElse]}, "exactly one argument, annotated with a model that"),
        ({"workflows": [TakesTwo]}, "bad.two) must take exactly one argument"),
        ({"workflows": [TakesNone]}, "extends TenantInput"),
        ({"workflows": [TakesAnything]}, "extends TenantInput"),
        ({"workflows": [HasNoPeriod]}, 'has no field "period"'),
        ({"workflows": [TakesDefault]}, 'changes "tenant_id"'),
        ({"workflows": [TakesOptional]}, 'changes "tenant_id"'),
        ({"workflows": [TakesAnyString]}, 'changes "tenant_id"'),
        ({"workflows": [TakesAlias]}, 'changes "tenant_id"'),
        ({"workflows": [TakesMutable]}, 'changes "tenant_id"'),
        ({"workflows": [TakesBoth]}, "extends PlatformInput"),
        (
            {"workflows": [PlatformTakesTenant]},
            "extends TenantInput, but the job is a platform job",
        ),
        ({"activities": [takes_unlooked]}, "has a tenant_id but does not extend TenantInput"),
        ({"activities": [takes_two]}, "beside other arguments"),
        ({"activities": [takes_default]}, 'changes "tenant_id"'),
        ({"workflow_runner": UnsandboxedWorkflowRunner()}, "has no sandbox"),
        ({"nexus_service_handlers": [object()]}, "not carried over Nexus"),
    ],
)
async def test_a_worker_that_could_lose_a_tenant_is_not_built(
    client: Client, queue: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with make_worker(client, queue, **options):
            """Never runs."""
    assert sentence in str(caught.value)


async def test_a_process_pool_is_refused(client: Client, queue: str) -> None:
    with (
        ProcessPoolExecutor(1) as processes,
        pytest.raises(ConfigurationError, match="ProcessPoolExecutor"),
    ):
        Worker(
            client,
            task_queue=queue,
            activities=[jobs.tell_tenant],
            activity_executor=processes,
        )


def test_an_exemption_needs_a_reason() -> None:
    with pytest.raises(ConfigurationError, match="needs a reason"):
        TenancyPlugin(exempt={"third_party.workflow": " "})


def test_a_feature_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the feature notes is listed twice"):
        TenancyPlugin(features=[Feature("notes"), Feature("notes")])


async def test_an_applications_feature_is_served_and_entered_around_activities(
    temporal: TemporalDevServer, directory: InMemoryDirectory, queue: str
) -> None:
    entered: list[bool] = []

    @contextmanager
    def around() -> Iterator[None]:
        entered.append(True)
        yield

    notes = Feature(
        "notes",
        workflows=(jobs.Echo,),
        activities=(jobs.tell_tenant,),
        around_activities=around,
    )
    plugin = TenancyPlugin(
        directory=directory,
        features=[notes],
        passthrough=["tests.fixtures.jobs.marks"],
        exempt=jobs.EXEMPT,
    )
    client = await Client.connect(temporal.address, plugins=[plugin])
    async with make_worker(client, queue, workflows=[jobs.Report], activities=[]):
        await client.execute_workflow(
            "echo.tell", {"tenant_id": "acme"}, id=f"acme/echo.tell/{queue}", task_queue=queue
        )
    assert entered == [True]
    assert plugin.migrations == ()


def test_a_plugin_names_the_migrations_of_its_features_once_and_in_order() -> None:
    assert TenancyPlugin().migrations == LIBRARY


def takes_it_at_once(job: jobs.EchoInput) -> None: ...


async def takes_it(job: jobs.EchoInput) -> None: ...


async def takes_anothers(job: HasDefault) -> None: ...


async def takes_more(job: jobs.EchoInput, more: str) -> None: ...


@pytest.mark.parametrize(
    ("coalesce", "sentence"),
    [
        (Coalesce(0, takes_it), "whole number from 1 to 5,000"),
        (Coalesce(1, takes_it, parallel=0), "whole number from 1 to 5,000"),
        (Coalesce(1, takes_it_at_once), "must be async"),  # type: ignore[arg-type]
        (Coalesce(1, takes_anothers), "annotated with EchoInput, the input of the job"),
        (Coalesce(1, takes_more), "exactly one argument"),  # type: ignore[arg-type]
    ],
)
def test_messages_are_worked_off_together_by_what_takes_the_jobs_input(
    coalesce: Coalesce, sentence: str
) -> None:
    declared = job_of(jobs.Echo)
    assert declared is not None
    dataclasses.replace(declared, coalesce=Coalesce(1, takes_it)).check()
    with pytest.raises(ConfigurationError, match=sentence):
        dataclasses.replace(declared, coalesce=coalesce).check()


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"two jobs are called echo\.tell"):
        tenant_job("echo.tell", queue="default")(Unmarked)


@pytest.mark.parametrize("name", ["billing", "Billing.Cycle", "billing/cycle", "a.", "", "a b.c"])
def test_a_job_that_is_not_called_area_verb_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a job name|must be a text"):
        tenant_job(name, queue="default")(Unmarked)
    assert job_of(Unmarked) is None


tenant: Any = tenant_job  # so that a wrong argument is one for a run only
platform: Any = platform_job


class WithoutRun:
    async def run(self, job: jobs.EchoInput) -> None: ...


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda: tenant("bad.queue", queue=None), "the queue of the job bad.queue must"),
        (lambda: tenant("bad.queue", queue=" "), "the queue of the job bad.queue must"),
        (lambda: tenant("bad.queue", queue="bulk", feature=3), "the feature of the job"),
        (lambda: tenant("bad.prio", queue="bulk", priority="hgih"), "JobPriority.HIGH"),
        (lambda: platform("bad.prio", reason="x", queue="bulk", priority=9), "not 9"),
        (lambda: platform("bad.queue", reason="x", queue=2), "the queue of the job"),
        (lambda: tenant(7, queue="bulk"), "the name of the job 7 must be a text"),
        (lambda: tenant("bad.run", queue="bulk"), r"WithoutRun \(bad.run\) is not a workflow"),
    ],
)
def test_a_declaration_with_a_wrong_argument_is_refused_in_a_sentence(
    declare: Any, sentence: str
) -> None:
    class Other(WithoutRun):
        pass

    Other.__qualname__ = "WithoutRun"
    with pytest.raises(ConfigurationError, match=sentence):
        declare()(Other)


def test_a_decorator_without_its_arguments_is_refused_in_a_sentence() -> None:
    declare: Any = tenant_job
    with pytest.raises(ConfigurationError, match=r"^@tenant_job stands above WithoutRun without"):
        declare(WithoutRun)
    with pytest.raises(ConfigurationError, match=r"^tenant_job\(\): missing .* 'queue'"):
        declare("bad.queue")


@pytest.mark.filterwarnings("ignore:The same plugin type")
async def test_a_second_plugin_is_refused(
    client: Client, queue: str, directory: InMemoryDirectory
) -> None:
    second = TenancyPlugin(
        directory=directory, passthrough=["tests.fixtures.jobs.marks"], exempt=jobs.EXEMPT
    )
    with pytest.raises(ConfigurationError, match="two TenancyPlugins"):
        async with make_worker(client, queue, plugins=[second]):
            """Never runs."""


async def test_a_plugin_on_the_worker_alone_is_refused(
    raw_client: Client, queue: str, plugin: TenancyPlugin
) -> None:
    with pytest.raises(ConfigurationError, match="but its client has none"):
        async with make_worker(raw_client, queue, plugins=[plugin]):
            """Never runs."""


@pytest.mark.filterwarnings("ignore:The same plugin type")
async def test_the_same_plugin_on_client_and_worker_checks_once(
    temporal: TemporalDevServer, queue: str, directory: InMemoryDirectory
) -> None:
    class Watched(InMemoryDirectory):
        looked = 0

        async def find_many(self, tenant_ids: Collection[str]) -> Any:
            self.looked += 1
            return await super().find_many(tenant_ids)

    watched = Watched(directory.tenants.values())
    plugin = TenancyPlugin(
        directory=CachedDirectory(watched, seconds=0),
        passthrough=["tests.fixtures.jobs.marks"],
        exempt=jobs.EXEMPT,
    )
    client = await Client.connect(temporal.address, plugins=[plugin])
    async with make_worker(client, queue, plugins=[plugin]):
        await client.execute_workflow(
            jobs.Echo.run,
            jobs.EchoInput(tenant_id="acme"),
            id="acme/echo.tell/twice",
            task_queue=queue,
        )
    assert watched.looked == 2  # by the client for the weight, by the activity for the status


class Rot13(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"rot"}, data=p.SerializeToString()[::-1])
                for p in payloads]  # fmt: skip

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) for p in payloads]


class Bound(Rot13, WithSerializationContext):
    """Records payloads that are decoded for another workflow than they were encoded for."""

    workflow_id = b""

    def __init__(self) -> None:
        self.strays: list[bytes] = []  # shared by the copies

    def with_context(self, context: SerializationContext) -> Self:
        mine = copy(self)
        mine.workflow_id = str(getattr(context, "workflow_id", "")).encode()
        return mine

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        encoded = await super().encode(payloads)
        for payload in encoded:
            payload.metadata["of"] = self.workflow_id
        return encoded

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.strays += [p.metadata["of"] for p in payloads if p.metadata["of"] != self.workflow_id]
        return await super().decode(payloads)


@pytest.mark.parametrize("codec", [Rot13(), Bound()], ids=["plain", "bound to its workflow"])
async def test_a_users_codec_stays_and_the_guard_sees_what_it_decodes(
    temporal: TemporalDevServer, queue: str, plugin: TenancyPlugin, codec: PayloadCodec
) -> None:
    converter = dataclasses.replace(DataConverter.default, payload_codec=codec)
    client = await Client.connect(temporal.address, plugins=[plugin], data_converter=converter)
    async with make_worker(client, queue):
        told = await client.execute_workflow(
            jobs.Hops.run,
            jobs.HopsInput(tenant_id="acme"),
            id="acme/echo.hops/codec",
            task_queue=queue,
        )
    assert told["child"] == "acme"
    assert not getattr(codec, "strays", [])


async def test_a_codec_that_a_later_plugin_gives_the_worker_is_refused(
    temporal: TemporalDevServer, queue: str, plugin: TenancyPlugin
) -> None:
    converter = dataclasses.replace(DataConverter.default, payload_codec=Bound())
    coded = await Client.connect(temporal.address, plugins=[plugin], data_converter=converter)

    class Swaps(SimplePlugin):
        def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
            config["client"] = coded
            return config

    client = await Client.connect(temporal.address, plugins=[plugin, Swaps("swaps")])
    with pytest.raises(ConfigurationError, match=r"a codec or an external storage\. Give them to"):
        await until_it_fails(client, queue)


class Own(PydanticPayloadConverter):
    """A user's converter that supports models."""


class NoModels(PayloadConverter):
    """A user's converter that does not."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return [JSONPlainPayloadConverter().to_payload(str(value)) or Payload() for value in values]

    def from_payloads(
        self, payloads: Sequence[Payload], type_hints: list[type] | None = None
    ) -> list[Any]:
        return [JSONPlainPayloadConverter().from_payload(payload) for payload in payloads]


async def test_a_users_payload_converter_is_built_upon(
    temporal: TemporalDevServer, plugin: TenancyPlugin
) -> None:
    converter = DataConverter(payload_converter_class=Own)
    client = await Client.connect(temporal.address, plugins=[plugin], data_converter=converter)
    assert issubclass(client.data_converter.payload_converter_class, Own)


class Charge(TenantInput):
    amount: int


def test_a_converter_for_a_workflow_names_no_activity_that_it_was_for_before() -> None:
    of_activity = ActivitySerializationContext("default", None, "charge", None, None, None, False)
    of_workflow = WorkflowSerializationContext("default", "acme/echo.tell/1")
    converter: Any = compose(None).payload_converter.with_context(of_activity)  # type: ignore[attr-defined]
    [payload] = converter.to_payloads([{"tenant_id": "acme", "extra": 1}])
    for mine, is_told in ((converter, True), (converter.with_context(of_workflow), False)):
        with pytest.raises(PayloadDoesNotFit) as raised:
            mine.from_payloads([payload], [Charge])
        assert ("the input of the activity charge" in str(raised.value)) is is_told


async def test_a_payload_converter_that_cannot_carry_models_is_refused(
    temporal: TemporalDevServer, plugin: TenancyPlugin
) -> None:
    converter = DataConverter(payload_converter_class=NoModels)
    with pytest.raises(ConfigurationError, match="does not carry pydantic models"):
        await Client.connect(temporal.address, plugins=[plugin], data_converter=converter)


async def test_what_a_later_plugin_adds_or_takes_away_is_found_when_the_worker_runs(
    temporal: TemporalDevServer, queue: str, plugin: TenancyPlugin
) -> None:
    later = [
        SimplePlugin("adds", workflows=[Unmarked], activities=[unmarked_activity]),
        SimplePlugin("unguards", workflow_runner=UnsandboxedWorkflowRunner()),
    ]
    for other in later:
        client = await Client.connect(temporal.address, plugins=[plugin, other])
        with pytest.raises(ConfigurationError):
            await until_it_fails(client, queue)


async def test_a_workflow_is_loaded_to_be_checked_once_in_each_sandbox(client: Client) -> None:
    loaded: list[str] = []

    class Counting(SandboxedWorkflowRunner):
        def prepare_workflow(self, defn: workflow._Definition) -> None:
            loaded.append(str(defn.name))

    def build(runner: SandboxedWorkflowRunner) -> None:
        queue = f"test-{uuid4()}"
        Worker(client, task_queue=queue, workflows=[jobs.Echo], workflow_runner=runner)

    build(Counting())
    build(Counting())
    assert loaded.count("echo.tell") == 1
    build(Counting(SandboxRestrictions.default.with_passthrough_modules("a.module")))
    assert loaded.count("echo.tell") == 2


async def test_a_later_plugin_may_change_the_sandbox_and_the_guard_stays(
    temporal: TemporalDevServer, plugin: TenancyPlugin
) -> None:
    def changed(runner: WorkflowRunner | None) -> WorkflowRunner:
        assert isinstance(runner, SandboxedWorkflowRunner)
        passing = runner.restrictions.with_passthrough_modules("a.module")
        return dataclasses.replace(runner, restrictions=passing)

    later = SimplePlugin("passes more", workflow_runner=changed)
    client = await Client.connect(temporal.address, plugins=[plugin, later])
    worker = Worker(client, task_queue="x", workflows=[jobs.Echo])
    runner = worker.config(active_config=True)["workflow_runner"]
    assert is_guarded(runner)
    assert isinstance(runner, SandboxedWorkflowRunner)
    assert "a.module" in runner.restrictions.passthrough_modules


async def test_a_workflow_whose_module_is_passed_through_is_refused(
    temporal: TemporalDevServer, queue: str, directory: InMemoryDirectory
) -> None:
    plugin = TenancyPlugin(directory=directory, passthrough=["tests"], exempt=jobs.EXEMPT)
    client = await Client.connect(temporal.address, plugins=[plugin])
    with pytest.raises(ConfigurationError, match=r"\.jobs\.hops is passed through the sandbox"):
        async with make_worker(client, queue):
            """Never runs."""


async def until_it_fails(client: Client, queue: str) -> None:
    async with make_worker(client, queue):
        await asyncio.Event().wait()


async def test_a_namespace_without_the_search_attributes_is_refused(
    temporal: TemporalDevServer, queue: str, plugin: TenancyPlugin, bare_namespace: str
) -> None:
    client = await Client.connect(temporal.address, namespace=bare_namespace, plugins=[plugin])
    with pytest.raises(ConfigurationError, match="has no search attribute Job and TenantId"):
        await until_it_fails(client, queue)


async def test_jobs_that_load_later_are_loaded_as_the_worker_is_built_and_not_in_a_run(
    client: Client, queue: str
) -> None:
    loaded: list[bool] = []
    registry.load_later(lambda: loaded.append(workflow.unsafe.in_sandbox()))
    with ThreadPoolExecutor(1) as threads:
        Worker(
            client,
            task_queue=queue,
            workflows=jobs.WORKFLOWS,
            activities=jobs.ACTIVITIES,
            activity_executor=threads,
        )
    assert loaded == [False]
