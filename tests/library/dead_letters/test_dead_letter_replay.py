"""A dead letter's job starts again in its own tenant, or the error says why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane import ledger
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.ledger import Entry
from temporal_tenancy.control_plane.tables import DeadLetterRow, LedgerState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus, use_directory
from temporal_tenancy.core.errors import (
    FeatureNotEnabled,
    InvalidPayload,
    ScopeMissing,
    TenancyError,
    TenantMismatch,
    TenantOffboarding,
    TenantSuspended,
    TenantUnknown,
    UnknownJob,
)
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Payload, Source
from temporal_tenancy.dead_letters.replaying import InputForgotten, ReplayOutcome, replay
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk.taken_ids import KeyReused
from tests.fixtures.app import another_client, app_plugin, app_worker
from tests.fixtures.held_locks import holding
from tests.fixtures.jobs.fan_out_control import Control, until
from tests.library.dead_letters.test_dead_letter_recording import messages, record_as, rows
from tests.library.dead_letters.test_failed_runs import JOB, failing

ID = f"acme/{JOB}/1"
DAILY = "test.controlled_daily"


@pytest.fixture(autouse=True)
async def platform(tenants: Tenants, database: Database) -> AsyncIterator[None]:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="enterprise")
    with use_database(database), use_directory(ControlPlaneDirectory(database)):
        yield


async def the_letter(database: Database) -> DeadLetterRow:
    async with database.platform_session("test") as session:
        [letter] = await letters.latest(session, Filter(), limit=10)
    return letter


async def start(app: Client, id: str = ID, note: str = "x") -> WorkflowHandle[Any, Any]:
    given = {"tenant_id": id.split("/")[0], "note": note}
    return await app.start_workflow(JOB, given, id=id, task_queue="bulk")


async def failed(app: Client, database: Database, control: Control) -> DeadLetterRow:
    """Returns the letter of a run that failed in a worker."""
    control.failing = {"acme"}
    async with app_worker(app):
        await failing(await start(app))
    control.failing = set()
    return await the_letter(database)


async def written(
    database: Database, payload: Payload | None, *, id: str = ID, tenant: str = "acme"
) -> DeadLetterRow:
    """Returns the letter of a run that the server does not know."""
    letter = Letter(id, Source.WORKFLOW, "Broken", "it is broken.", 1, run_id=str(uuid4()))
    assert await record_as(database, letter, payload, tenant)
    return await the_letter(database)


async def test_a_job_runs_again_in_its_own_tenant_with_its_own_key_and_input(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    done = await replay(app, letter, by="ada")
    async with app_worker(app):
        handle = app.get_workflow_handle(ID, run_id=done.run_id)
        assert await handle.result() == "acme"
    assert done.outcome is ReplayOutcome.REPLAYED
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert b'"note":"x"' in started.input.payloads[0].data
    letter = await the_letter(database)
    assert (letter.status, letter.replays, letter.handled_by) == ("replayed", 1, "ada")
    assert letter.replay_run_id == done.run_id
    assert letter.handled_at is not None
    assert control.runs == {"acme": 2}


@pytest.mark.usefixtures("control")
async def test_what_the_server_has_forgotten_runs_again_all_the_same(
    app: Client, database: Database
) -> None:
    letter = await written(database, {"note": "x"})
    done = await replay(app, letter, by="ada")
    async with app_worker(app):
        assert await app.get_workflow_handle(ID).result() == "acme"
    assert done.outcome is ReplayOutcome.REPLAYED


async def test_a_replay_that_fails_again_opens_the_letter_anew(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    control.failing = {"acme"}
    done = await replay(app, letter, by="ada")
    async with app_worker(app):
        await failing(app.get_workflow_handle(ID, run_id=done.run_id))
    again = await the_letter(database)
    assert (again.status, again.replays, again.run_id) == ("open", 1, done.run_id)
    assert again.id == letter.id
    assert again.failed_at > letter.failed_at


class SlowAnswers(Interceptor):
    """Delays the server's answer to a start until it is released."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _SlowAnswers(next, self)


class _SlowAnswers(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, answers: SlowAnswers) -> None:
        super().__init__(next)
        self.answers = answers

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        handle = await super().start_workflow(input)
        self.answers.started.set()
        await self.answers.go_on.wait()
        return handle


async def test_a_failure_that_is_faster_than_the_mark_stays_open(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    control.failing = {"acme"}
    answers = SlowAnswers()
    slow = await another_client(app, app_plugin(database), [answers])
    replaying = asyncio.create_task(replay(slow, letter, by="ada"))
    await answers.started.wait()
    async with app_worker(app):
        await failing(app.get_workflow_handle(ID))
    answers.go_on.set()
    done = await replaying
    letter = await the_letter(database)
    assert (letter.status, letter.replays, letter.run_id) == ("open", 1, done.run_id)


async def test_a_replay_that_was_cut_off_is_marked_by_the_next_and_counted_once(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    answers = SlowAnswers()
    slow = await another_client(app, app_plugin(database), [answers])
    replaying = asyncio.create_task(replay(slow, letter, by="ada"))
    await answers.started.wait()
    replaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replaying
    assert (await the_letter(database)).status == "open"
    for _ in range(2):
        done = await replay(app, letter, by="grace")
        assert done.outcome is ReplayOutcome.RUNNING
    letter = await the_letter(database)
    assert (letter.status, letter.replays, letter.handled_by) == ("replayed", 1, "grace")


async def test_two_people_at_once_start_one_run(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    both = await asyncio.gather(replay(app, letter, by="ada"), replay(app, letter, by="grace"))
    assert sorted(done.outcome for done in both) == ["replayed", "running"]
    assert len({done.run_id for done in both}) == 1
    assert (await the_letter(database)).replays == 1


async def test_what_has_succeeded_since_is_resolved_and_not_started(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    async with app_worker(app):
        assert await (await start(app)).result() == "acme"
    done = await replay(app, letter, by="ada")
    letter = await the_letter(database)
    assert (done.outcome, letter.status, letter.replays) == (ReplayOutcome.RESOLVED, "resolved", 0)
    assert control.runs == {"acme": 2}
    # Also once the server has forgotten the run that succeeded.
    of_another = DeadLetterRow(
        **{name: getattr(letter, name) for name in ("tenant_id", "id", "job", "status")},
        workflow_id="acme/test.flaky/forgotten",
    )
    again = await replay(app, of_another, by="ada")
    assert (again.outcome, again.run_id) == (ReplayOutcome.RESOLVED, None)
    assert await messages(database) == []


async def test_what_has_succeeded_or_runs_with_another_input_keeps_the_letter_open(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    running = await start(app, note="y")
    with pytest.raises(KeyReused, match="with another input, so nothing was started"):
        await replay(app, letter, by="ada")
    async with app_worker(app):
        await running.result()
    with pytest.raises(KeyReused, match="The letter stays open: discard it"):
        await replay(app, letter, by="ada")
    letter = await the_letter(database)
    assert (letter.status, letter.replays) == ("open", 0)
    assert len(await messages(database)) == 1


async def test_the_ledger_knows_of_a_success_that_the_server_has_forgotten(
    app: Client, database: Database
) -> None:
    letter = await written(database, {"period": "2013-01-01"}, id=f"acme/{DAILY}/2013-01-01")
    async with database.platform_session("test") as session:
        entry = Entry("acme", LedgerState.PLANNED, workflow_id=letter.workflow_id)
        await ledger.plan(session, DAILY, "2013-01-01", [entry], planned_by="test")
        await session.execute(text("update tenancy.ledger set state = 'succeeded'"))
    done = await replay(app, letter, by="ada")
    assert done.outcome is ReplayOutcome.RESOLVED
    assert (await app.count_workflows()).count == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (TenantStatus.SUSPENDED, TenantSuspended),
        (TenantStatus.OFFBOARDING, TenantOffboarding),
    ],
)
async def test_who_may_not_run_jobs_now_is_not_replayed(
    app: Client,
    database: Database,
    tenants: Tenants,
    status: TenantStatus,
    error: type[TenancyError],
) -> None:
    letter = await written(database, {"note": "x"})
    await tenants.set_status("acme", status)
    await refused(app, database, letter, error)


async def test_who_is_not_there_is_not_replayed(app: Client, database: Database) -> None:
    letter = await written(database, {"note": "x"}, id=f"nobody/{JOB}/1", tenant="nobody")
    await refused(app, database, letter, TenantUnknown)


async def test_who_lacks_the_feature_is_not_replayed(
    app: Client, database: Database, tenants: Tenants
) -> None:
    await tenants.add("poor", "Poor", plan="free")
    letter = await written(database, {"note": "x"}, id=f"poor/{JOB}/1", tenant="poor")
    await refused(app, database, letter, FeatureNotEnabled)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"note": "x", "more": 1}, InvalidPayload),
        ({"note": {"not": "text"}}, InvalidPayload),
        ({"tenant_id": "globex"}, TenantMismatch),
        (None, InputForgotten),
    ],
)
async def test_an_input_that_does_not_fit_or_is_lost_is_not_replayed(
    app: Client, database: Database, payload: Payload | None, error: type[TenancyError]
) -> None:
    await refused(app, database, await written(database, payload), error)


async def test_a_job_that_is_not_known_here_is_not_replayed(
    app: Client, database: Database
) -> None:
    letter = await written(database, {}, id="acme/retired.job/1")
    await refused(app, database, letter, UnknownJob)


async def refused(
    app: Client, database: Database, letter: DeadLetterRow, error: type[TenancyError]
) -> None:
    with pytest.raises(error):
        await replay(app, letter, by="ada")
    letter = await the_letter(database)
    assert (letter.status, letter.replays, letter.handled_by) == ("open", 0, None)
    assert (await app.count_workflows()).count == 0


async def test_an_input_that_was_not_kept_is_read_from_the_history(
    app: Client, database: Database, control: Control
) -> None:
    letter = await failed(app, database, control)
    await rows(database, "update tenancy.dead_letters set message_id = null returning 1")
    await replay(app, await the_letter(database), by="ada")
    control.holding = {"acme"}
    async with app_worker(app):
        await until(lambda seen: "acme" in seen.running)
        started = (await app.get_workflow_handle(ID).fetch_history()).events[0]
        control.released.set()
    given = started.workflow_execution_started_event_attributes.input.payloads[0].data
    assert b'"note":"x"' in given
    assert letter.id


async def test_no_tenants_code_replays_a_letter(
    app: Client, database: Database, control: Control
) -> None:
    letter = await written(database, {"note": "x"})
    for tenant in ("globex", "acme"):
        with enter(TenantScope(tenant)), pytest.raises(ScopeMissing):
            await replay(app, letter, by="ada")
    assert (await app.count_workflows()).count == 0


async def test_a_runs_id_that_a_tenants_role_has_made_up_is_one_that_is_not_known(
    app: Client, database: Database
) -> None:
    await written(database, None)
    await rows(database, "update tenancy.dead_letters set run_id = 'no-uuid' returning 1")
    await refused(app, database, await the_letter(database), InputForgotten)


@pytest.mark.usefixtures("control")
async def test_a_letter_that_its_tenant_has_locked_is_started_and_marked_by_the_next(
    app: Client, database: Database, database_urls: DatabaseUrls
) -> None:
    letter = await written(database, {"note": "x"})
    with holding(database_urls.tenant, "acme", "select from tenancy.dead_letters for update"):
        done = await replay(app, letter, by="ada")
    assert (done.outcome, done.is_marked) == (ReplayOutcome.REPLAYED, False)
    done = await replay(app, letter, by="grace")
    assert (done.outcome, done.is_marked) == (ReplayOutcome.RUNNING, True)
    assert (await the_letter(database)).status == "replayed"


async def test_a_tenant_with_many_letters_and_times_to_come_hides_nobody_elses(
    database: Database,
) -> None:
    await written(database, {}, id=f"globex/{JOB}/1", tenant="globex")
    for number in range(4):
        letter = Letter(f"acme/{JOB}/{number}", Source.WORKFLOW, "Broken", "it is broken.", 1)
        assert await record_as(database, letter, {}, "acme")
    late = (
        "update tenancy.dead_letters set failed_at = '9998-01-01' where tenant_id = 'acme' "
        "returning 1"
    )
    await rows(database, late)
    async with database.platform_session("test") as session:
        listed = await letters.latest(session, Filter(), limit=3)
        assert await letters.count(session, Filter()) == 5
    assert [each.tenant_id for each in listed] == ["acme", "acme", "globex"]
