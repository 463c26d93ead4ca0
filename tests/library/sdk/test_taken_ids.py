"""A start that finds its workflow id taken counts as done only if the run is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError
from temporalio.worker import Worker

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import use_directory
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters._telling import tell_of_dead_letters
from temporal_tenancy.dead_letters.alerts import Alert
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.replaying import ReplayOutcome, replay
from temporal_tenancy.dead_letters.sweep import Sweep
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.agreement import TENANT_ID
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken, own_run
from temporal_tenancy.ticks.fan_out.children import state_of_child
from tests.fixtures.app import rows_of
from tests.fixtures.jobs.fan_out_control import Control
from tests.fixtures.jobs.relay_jobs import Noted
from tests.fixtures.jobs.taken_jobs import QUEUE, WORKFLOWS, Child, Parent
from tests.fixtures.relay import ask, messages_of, running, until_effects, until_messages
from tests.library.dead_letters.test_dead_letter_sweep import until_listed
from tests.library.ticks.test_fan_out import JOB, add_tenants, start

NOTE = "test.note"
ID = f"acme/{NOTE}/k"
OWN = {"tenant_id": "acme"}

MakeRelay = Callable[..., Relay]


class _Forging(Interceptor):
    """Starts everything with globex's header."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        class Forging(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                input.headers = header.write(input.headers, TenantScope("globex"))
                return await self.next.start_workflow(input)

        return Forging(next)


@asynccontextmanager
async def nobody(raw: Client) -> AsyncIterator[None]:
    """A worker without the plugin."""
    async with Worker(raw, task_queue=QUEUE, workflows=WORKFLOWS):
        yield


async def child_of(raw: Client, parent: str, type: str = NOTE, id: str = ID) -> None:
    """Starts a workflow as a child of another, unchecked by any guard."""
    async with nobody(raw):
        given = Child(type, id, OWN)
        await raw.execute_workflow(Parent.run, given, id=parent, task_queue=QUEUE)


async def thing(raw: Client, id: str = ID) -> None:
    """Completes another workflow under an id."""
    async with nobody(raw):
        await raw.execute_workflow("nobodys.thing", id=id, task_queue=QUEUE)


async def forged(raw: Client) -> None:
    client = Client(raw.service_client, namespace=raw.namespace, interceptors=[_Forging()])
    await client.start_workflow(NOTE, OWN, id=ID, task_queue="nobody")


def begun(type: str = NOTE, given: Any = OWN, **options: Any) -> Callable[[Client], Any]:
    async def begin(raw: Client) -> None:
        await raw.start_workflow(type, given, id=ID, task_queue="nobody", **options)

    return begin


def attributes(tenant: str) -> TypedSearchAttributes:
    return TypedSearchAttributes([SearchAttributePair(TENANT_ID, tenant)])


@pytest.mark.parametrize(
    ("take", "by"),
    [
        (begun("evil.thing"), 'a run of "evil.thing"'),
        (begun('\x1b[2J"' + "x" * 200), r'a run of "\?\[2J\?x+…"'),
        (begun("test.small"), 'a run of "test.small"'),
        (begun("messages.work_off"), 'a run of "messages.work_off"'),
        (thing, 'a run of "nobodys.thing"'),
        (begun(given={"tenant_id": "globex"}), "a run whose input names another tenant"),
        (begun(given={}), "a run whose input names another tenant, or none"),
        (begun(given="x"), "a run whose input names another tenant, or none"),
        (begun(search_attributes=attributes("globex")), "a run whose search attributes name"),
        (forged, "a run whose header names another tenant"),
        (lambda raw: child_of(raw, "globex/test.note/x"), 'that "globex/test.note/x" has started'),
    ],
    ids=["type", "odd-type", "job", "batch", "done", "input", "no-tenant", "no-input",
         "attribute", "header", "parent"],
)  # fmt: skip
async def test_what_is_not_the_tenants_own_run_has_taken_the_id(
    raw: Client, app: Client, take: Callable[[Client], Any], by: str
) -> None:
    await take(raw)
    with pytest.raises(
        WorkflowIdTaken, match=f'"{ID}" is taken by .*{by}.* delete --workflow-id {ID}"'
    ):
        await own_run(app, ID, NOTE)


@pytest.mark.parametrize(
    "begin",
    [
        begun(),
        begun(search_attributes=attributes("acme")),
        begun(memo={"tenancy-message": "another's, of the same key"}),
        lambda raw: child_of(raw, "acme/test.other/x"),
        lambda raw: child_of(raw, "platform/test.note/tick"),
        lambda raw: child_of(raw, "of-no-tenancy"),
    ],
    ids=["by-hand", "attribute", "message", "own-child", "fan-out", "exempt"],
)
async def test_the_tenants_own_run_is_found_however_it_was_started(
    raw: Client, app: Client, begin: Callable[[Client], Any]
) -> None:
    await begin(raw)
    assert (await own_run(app, ID, NOTE)).id == ID


async def test_an_id_that_nothing_has_is_not_found(app: Client) -> None:
    with pytest.raises(RPCError, match="not found"):
        await own_run(app, ID, NOTE)


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


async def the_letter(database: Database) -> DeadLetterRow:
    async with database.platform_session("test") as session:
        [letter] = await letters.latest(session, Filter(), limit=10)
    return letter


@pytest.mark.usefixtures("two_tenants")
async def test_a_message_whose_id_is_taken_is_a_dead_letter_that_people_are_told_of(
    raw: Client, app: Client, database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    await begun("evil.thing")(raw)
    async with running(make_relay()):
        await ask(database, "acme", key="k")
        await ask(database, "globex", key="k")
        [message] = await until_messages(
            database, "acme", lambda found: found[0].status == "dead_letter"
        )
        assert await until_effects(database, "globex", 1) == ["k"]
    assert (message.error_type, message.attempts) == ("WorkflowIdTaken", 1)
    inbox = Inbox()
    with use_database(database), use_directory(ControlPlaneDirectory(database)):
        await tell_of_dead_letters([inbox])
        assert [alert.details["error_type"] for alert in inbox.alerts] == ["WorkflowIdTaken"]
        letter = await the_letter(database)
        with pytest.raises(WorkflowIdTaken):
            await replay(app, letter, by="a person")
        await raw.get_workflow_handle(ID).terminate()
        assert (await replay(app, letter, by="a person")).outcome is ReplayOutcome.REPLAYED
    assert await until_effects(database, "acme", 1) == ["k"]


@pytest.mark.usefixtures("two_tenants")
async def test_a_message_whose_run_was_started_by_hand_is_done(
    raw: Client, database: Database, make_relay: MakeRelay, relay_worker: Worker
) -> None:
    await raw.execute_workflow(NOTE, OWN, id=ID, task_queue="bulk")
    async with running(make_relay()):
        await ask(database, "acme", key="k")
        await until_messages(database, "acme", lambda found: found[0].status == "completed")
    assert len(await messages_of(database, "acme")) == 1


async def test_a_fan_out_whose_childs_id_is_taken_fails_for_that_tenant_with_a_letter(
    raw: Client,
    app: Client,
    tenants: Tenants,
    database: Database,
    controlled_worker: Worker,
    control: Control,
) -> None:
    await add_tenants(tenants, 3)
    await thing(raw, f"t001/{JOB}/a")
    result = await (await start(app, "a")).result()
    assert (result.succeeded, result.failed, result.already) == (2, 1, 0)
    [row] = [row for row in await rows_of(database, JOB, "a") if row.state != "succeeded"]
    assert (row.tenant_id, row.state, row.error_type) == ("t001", "failed", "WorkflowIdTaken")
    letter = await the_letter(database)
    assert (letter.workflow_id, letter.source, letter.error_type) == (
        f"t001/{JOB}/a", "fan_out", "WorkflowIdTaken")  # fmt: skip
    found = await state_of_child(app, "t001", f"t001/{JOB}/a")  # as settled
    assert found is not None
    assert (found.state, found.error_type) == ("failed", "WorkflowIdTaken")


@pytest.mark.usefixtures("two_tenants")
async def test_what_has_taken_an_id_and_succeeds_settles_no_letter(
    raw: Client, app: Client, database: Database
) -> None:
    for key in ("k", "it's"):  # the second cannot be a literal of a query
        await thing(raw, f"acme/{NOTE}/{key}")
    insert = text("""
        insert into tenancy.dead_letters (tenant_id, job, source, workflow_id, error_type, message,
                                  fingerprint, attempts, failed_at)
        select 'acme', 'test.note', 'relay', 'acme/test.note/' || key, 'X', 'x',
            '0123456789abcdef', 1,
            now() - interval '1 day'
        from unnest(array['k', 'it''s']) as key
    """)
    async with database.platform_session("test") as session:
        await session.execute(insert)
    await until_listed(app, 2, "ExecutionStatus = 'Completed'")
    with use_database(database):
        assert await Sweep(app).resolve() == 0


@pytest.mark.usefixtures("two_tenants")
async def test_what_takes_an_id_after_a_failure_hides_it_from_no_sweep(
    raw: Client, app: Client, database: Database
) -> None:
    failed = await app.start_workflow(NOTE, Noted(tenant_id="acme"), id=ID, task_queue="nobody")
    await failed.terminate()
    await begun("evil.thing")(raw)
    await until_listed(app, 1)
    with use_database(database):
        assert await Sweep(app).find(datetime.now(UTC), until=float("inf")) == 1
    assert (await the_letter(database)).run_id == failed.result_run_id
