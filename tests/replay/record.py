"""Records the histories that the replay tests replay: `python -m tests.replay.record`.

`python -m tests.replay.record VERSION PART` records one of the parts, `jobs` or `release`.

Run it for a new release and commit what it writes beside what is there: an old history must stay
replayable for as long as a workflow that it came from may be open.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import ACTIVITIES
from activities.uploads import begin_import
from dev.devstack.postgres import EmbeddedPostgres
from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_server import TemporalDevServer
from dev.sample_data.load import make_up_tenants
from processes.connect import PASSTHROUGH
from saas.database.environment import TENANT_DATA
from saas.queues import Queue
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import ReleaseState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.deployments import Bounds, Cohort, Releases, versioned
from temporal_tenancy.deployments.versions import queues_of
from temporal_tenancy.deployments.watch import WatchInput, watch_id
from temporal_tenancy.everything import TenancyPlugin, everything
from temporal_tenancy.outbox.retries import LADDER
from temporal_tenancy.outbox.work_off import WorkOff
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.sdk.endings import SLOT
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, fan_out
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.jobs import scope_control, scope_jobs
from tests.fixtures.jobs.failing_jobs import Failing
from workflows import WORKFLOWS

ROOT = Path(__file__).parents[2]
HISTORIES = Path(__file__).parent / "histories"
RECORDER = "recorder"  # the identity in a history, in the place of a process and a machine
QUEUE = Queue.BULK


async def record(address: str, database: Database, release: str) -> None:
    """Runs one workflow of each kind and writes its history."""
    others = [each for each in everything(database) if each.name != "fan-out"]
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database),
        # So small that a shard reads its second page while children run.
        features=[*others, fan_out(page_size=2)],
        passthrough=[
            *PASSTHROUGH,
            "tests.fixtures.jobs.marks",
            "tests.fixtures.jobs.scope_control",
        ],
        exempt=jobs.EXEMPT,
    )
    client = await Client.connect(address, plugins=[plugin], identity=RECORDER)
    raw = await Client.connect(address, identity=RECORDER)
    await make_up_tenants(database, 4, events=3)
    tenants = Tenants(database)
    await tenants.add("acme", "Acme", plan="enterprise")
    await tenants.set_status("t00004", TenantStatus.SUSPENDED)

    async def run(sender: Client, kind: str, id: str, *args: Any, **options: Any) -> None:
        handle = await sender.start_workflow(kind, args=args, id=id, task_queue=QUEUE, **options)
        await _settled(handle.result)
        await save(sender, id, release, handle.result_run_id)

    own = [cls for cls in jobs.WORKFLOWS if cls is not jobs.ThirdParty]
    activities: list[Callable[..., Any]] = [
        *ACTIVITIES,
        *jobs.ACTIVITIES,
        *scope_control.ACTIVITIES,  # type: ignore[list-item]
    ]
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[*WORKFLOWS, *own, Failing, *scope_jobs.WORKFLOWS],
        activities=activities,
        activity_executor=ThreadPoolExecutor(5),
        identity=RECORDER,
    ):
        acme = {"tenant_id": "acme"}
        await run(client, "echo.tell", "acme/echo.tell/by-client", acme)
        await run(raw, "echo.tell", "acme/echo.tell/without-header", acme)
        await run(raw, "echo.marked", "acme/echo.marked/refused", {"tenant_id": "globex"})
        reach = {**acme, "how": "cancel", "target": "globex/report.daily/1"}
        await run(client, "echo.reach", "acme/echo.reach/refused", reach)
        await run(
            client, "billing.cycle", "acme/billing.cycle/2013-01", {**acme, "period": "2013-01"}
        )
        for job, given in (
            ("retention.enforce", {"keep_days": 30}),
            ("cleanup.expired", {}),
            ("trial.expiry", {}),
            ("report.daily", {"period": "2013-01-01"}),
            ("audit.aggregate", {"period": "2013-01-01"}),
            ("search.reindex", {}),
        ):
            await run(client, job, f"acme/{job}/by-client", {**acme, **given})
        for job in ("ticks.reconcile", "dead_letters.sweep"):
            await run(client, job, f"platform/{job}/by-client")
        await run(client, "test.failing", "acme/test.failing/letter", {**acme, "how": "fail"})
        await run(client, "echo.tell", "acme/echo.tell/with-a-slot", acme, memo={SLOT: True})
        for into in ("globex", "platform", "generator"):
            await run(client, "scope.lead", f"acme/scope.lead/{into}", {**acme, "into": into})
        batch = WorkOff(tenant_id="acme", job="search.index", message_ids=[], retries=LADDER)
        await run(client, "messages.work_off", "acme/search.index/messages", batch)
        with use_database(database), enter(TenantScope("acme")):
            import_id = await begin_import(_contacts(), file_name="c.csv", started_by="recorder")
        imported = {**acme, "import_id": str(import_id)}
        await run(client, "contacts.import", f"acme/contacts.import/{import_id}", imported)
        for job, pace in (("billing.cycle", None), ("analytics.aggregate", 2.0)):
            root = f"platform/{job}/tick-2013-01"
            request = FanOutInput(
                job=job, tick="2013-01", shard_size=3, window=2, max_starts_per_second=pace
            )
            handle = await client.start_workflow(FanOut.run, request, id=root, task_queue=QUEUE)
            await handle.result()
            shards = [
                event.child_workflow_execution_started_event_attributes.workflow_execution
                for event in (await handle.fetch_history()).events
                if event.HasField("child_workflow_execution_started_event_attributes")
            ]
            for id in (root, *(shard.workflow_id for shard in shards), f"t00003/{job}/2013-01"):
                await save(client, id, release)
        mailbox = "acme/echo.mailbox/messages"
        await client.start_workflow("echo.mailbox", acme, id=mailbox, task_queue=QUEUE)
        messages = client.get_workflow_handle(mailbox)
        await messages.execute_update("change", {})
        await messages.signal("poke", {"text": "own"})
        await messages.signal("poke", args=[{}, {}])
        await messages.signal("renew")
        async for _ in messages.fetch_history_events(wait_new_event=True):
            """Until the first run has ended."""
        first_run = (await messages.describe()).raw_description.workflow_execution_info
        await save(client, mailbox, release, first_run.first_run_id)
        await messages.signal("end")
        await messages.result()
    await record_without_plugin(address, release)


async def record_without_plugin(address: str, release: str) -> None:
    """What an application ran before it had the plugin: it must go on under it."""
    bare = await Client.connect(address, identity=RECORDER, data_converter=pydantic_data_converter)
    async with Worker(
        bare,
        task_queue="bare",
        workflows=[jobs.Waiter, jobs.Reach],
        workflow_runner=UnsandboxedWorkflowRunner(),
        identity=RECORDER,
    ):
        id = "acme/echo.waiter/before-the-plugin"
        handle = await bare.start_workflow(
            "echo.waiter", {"tenant_id": "acme"}, id=id, task_queue="bare"
        )
        await handle.signal("end")
        await handle.result()
        await save(bare, id, release)
        # Commands that the guard refuses today, in a history that has them.
        for how, target in (
            ("child", "globex/report.daily/taken"),
            ("cancel", "globex/report.daily/taken"),
        ):
            id = f"acme/echo.reach/{how}-before-the-plugin"
            reach = {"tenant_id": "acme", "how": how, "target": target}
            handle = await bare.start_workflow("echo.reach", reach, id=id, task_queue="bare")
            await handle.signal("end")
            await handle.result()
            await save(bare, id, release)


async def record_release(address: str, database: Database, release: str) -> None:
    """Runs a fan-out of which one tenant has another worker version, and a release's watch."""
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database), database=database, passthrough=PASSTHROUGH
    )
    client = await Client.connect(address, plugins=[plugin], identity=RECORDER)
    await make_up_tenants(database, 3, events=3)
    version = WorkerDeploymentVersion("app", "v2")
    releases, directory = Releases(database), ControlPlaneDirectory(database)
    cohort = Cohort(frozenset({"t00002"}))
    await releases.ramp(version, cohort, Bounds(), directory=directory, by=RECORDER)
    options: dict[str, Any] = {
        "task_queue": QUEUE,
        "workflows": WORKFLOWS,
        "activities": ACTIVITIES,
        "activity_executor": ThreadPoolExecutor(5),
        "identity": RECORDER,
    }
    config = versioned(version.deployment_name, version.build_id)
    async with Worker(client, **options), Worker(client, **options, deployment_config=config):
        while True:  # until the server knows the version
            with suppress(RPCError):
                if QUEUE in await queues_of(client, version):
                    break
            await asyncio.sleep(0.1)
        watch = await client.start_workflow(
            "deployments.watch",
            WatchInput(deployment="app", build_id="v2", every=timedelta(seconds=0.5)),
            id=watch_id(version),
            task_queue=QUEUE,
        )
        root = "platform/billing.cycle/tick-2013-02"
        request = FanOutInput(job="billing.cycle", tick="2013-02")
        handle = await client.start_workflow(FanOut.run, request, id=root, task_queue=QUEUE)
        print(await handle.result(), file=sys.stderr)
        await releases.end(version, ReleaseState.ROLLED_BACK, reason=None, by=RECORDER)
        await watch.result()
        await save(client, watch.id, release)
        [shard] = [
            event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
            for event in (await handle.fetch_history()).events
            if event.HasField("child_workflow_execution_started_event_attributes")
        ]
        await save(client, shard, release)


async def save(client: Client, id: str, release: str, run_id: str | None = None) -> None:
    """Writes a history as JSON, named by its workflow and the release that made it."""
    history = await client.get_workflow_handle(id, run_id=run_id).fetch_history()
    path = HISTORIES / f"{id.replace('/', '~')}@{release}.json"
    # A stack trace in it names files of this machine.
    path.write_text(history.to_json().replace(f"{ROOT}/", "") + "\n")
    print(path.name, file=sys.stderr)


async def _settled(result: Callable[[], Awaitable[Any]]) -> None:
    try:
        await result()
    except Exception as error:  # a refused start is recorded too
        print(type(error.__cause__).__name__, error.__cause__, file=sys.stderr)


async def _contacts() -> AsyncIterator[bytes]:
    yield b"email\r\na@airline.example\r\nnobody\r\n"


PARTS = {"jobs": record, "release": record_release}


async def main(release: str, parts: Sequence[str]) -> None:
    """Starts servers of its own, records, and stops them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False) as postgres,
        TemporalDevServer(find_temporal(), Path(folder) / "temporal", ui=False) as server,
    ):
        migrate(
            postgres.owner_url,
            tenant_url=postgres.tenant_url,
            platform_url=postgres.platform_url,
            application=[TENANT_DATA],
        )
        os.environ["STORAGE_URL"] = (Path(folder) / "storage").as_uri()
        database = Database(tenant_url=postgres.tenant_url, platform_url=postgres.platform_url)
        try:
            for part in parts or PARTS:
                await PARTS[part](server.address, database, release)
        finally:
            await database.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "0.1.0", sys.argv[2:]))
