"""The jobs that every SaaS has: each takes effect once, in its own tenant, batch by batch."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import ProgrammingError
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.audit import AuditSummary
from activities.cleanup import Cleanup
from activities.deletion import Batches
from activities.reports import KIND, DailyReport, Route
from activities.retention import Retention
from activities.trials import EndedTrial
from dev.devstack.postgres import DatabaseUrls
from dev.sample_data.airlines import TIME_ZONE, Flight, flights
from dev.sample_data.load import load_events
from saas.database import audit
from saas.database.tables import AuditEntry, DailyAudit, Document, Subscription, UsageEvent
from saas.queues import Queue
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.plans import PlanUnknown
from temporal_tenancy.control_plane.tables import TenantRow
from temporal_tenancy.control_plane.tenants import Tenants, TrialEndRefused
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.fixtures.postgres import within
from tests.fixtures.relay import messages_of
from tests.fixtures.saas import saas_worker
from workflows.audit import AggregateAuditInput, AggregateAuditLog
from workflows.billing import BillingCycle, BillingCycleInput
from workflows.cleanup import CleanUpExpired, CleanUpExpiredInput
from workflows.reports import ReportDaily, ReportDailyInput
from workflows.retention import EnforceRetention, EnforceRetentionInput, RetentionReport
from workflows.trials import ExpireTrial, ExpireTrialInput

NEW_YORK = ZoneInfo(TIME_ZONE)
JANUARY = datetime(2013, 1, 1, tzinfo=UTC)
PAST = datetime(2026, 3, 1, 17, tzinfo=UTC)

_keys = itertools.count(1)


@pytest.fixture
async def each_plan(tenants: Tenants) -> None:
    """Adds tenants on each plan."""
    for tenant, plan in {"acme": "free", "globex": "free", "kept": "enterprise"}.items():
        await tenants.add(tenant, tenant, plan=plan, time_zone=TIME_ZONE)


@pytest.fixture
async def worker(saas: Client, each_plan: None) -> AsyncIterator[None]:
    """Workers of both queues, and tenants on each plan."""
    async with saas_worker(saas), saas_worker_of_default(saas):
        yield


def saas_worker_of_default(client: Client) -> Any:
    return saas_worker(client, task_queue=Queue.DEFAULT)


def event(number: int, at: datetime) -> Flight:
    return Flight(
        tenant_id="",
        time_hour=at.isoformat(),
        carrier="AC",
        flight=number,
        origin="JFK",
        destination="LAX",
        tail_number=None,
        distance=100,
        air_time=60,
        departure_delay=None,
        cancelled=False,
    )


async def give_events(database: Database, tenant: str, moments: Sequence[datetime]) -> None:
    events = [event(number, at)._replace(tenant_id=tenant) for number, at in enumerate(moments)]
    assert await load_events(database, tenant, events) == len(moments)


async def events_of(database: Database, tenant: str) -> list[datetime]:
    with within(database, tenant):
        async with tenant_session() as session:
            query = select(UsageEvent.time_hour).order_by(UsageEvent.time_hour)
            return list(await session.scalars(query))


async def entries_of(database: Database, tenant: str, action: str) -> list[AuditEntry]:
    with within(database, tenant):
        async with tenant_session() as session:
            query = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
            return list(await session.scalars(query))


async def run(client: Client, job: Any, request: Any, *, key: str | None = None) -> Any:
    """Runs a job for the tenant of its input; without a key, as a new run."""
    name = job.__temporal_workflow_definition.name
    return await client.execute_workflow(
        job.run,
        request,
        id=f"{request.tenant_id}/{name}/{key or next(_keys)}",
        task_queue=Queue.BULK,
    )


async def failure(client: Client, job: Any, request: Any) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await run(client, job, request)
    cause: BaseException | None = caught.value.cause
    if isinstance(cause, ActivityError):
        cause = cause.cause
    assert isinstance(cause, ApplicationError)
    return cause


# Retention.


async def retain(client: Client, tenant: str, keep_days: int | None = None) -> RetentionReport:
    request = EnforceRetentionInput(tenant_id=tenant, keep_days=keep_days)
    report = await run(client, EnforceRetention, request)
    assert isinstance(report, RetentionReport)
    return report


def retaining(saas: Client, rows: int) -> AbstractAsyncContextManager[Worker]:
    """A worker of the queue `bulk` that deletes this many rows per transaction."""
    return saas_worker(saas, Retention(Batches(rows=rows)).delete_usage)


@pytest.mark.usefixtures("each_plan")
async def test_retention_deletes_what_is_past_the_plans_days_in_batches(
    saas: Client, database: Database
) -> None:
    old = [JANUARY + timedelta(hours=hour) for hour in range(10)]
    new = [datetime.now(UTC) - timedelta(days=80)]
    for tenant in ("acme", "globex"):
        await give_events(database, tenant, old + new)
    async with retaining(saas, 3):
        assert (await retain(saas, "acme")).deleted == 10
        assert await events_of(database, "acme") == new
        assert await events_of(database, "globex") == old + new
        entries = await entries_of(database, "acme", "usage.deleted")
        assert [entry.details["rows"] for entry in entries] == [3, 3, 3, 1]
        assert (await retain(saas, "acme")).deleted == 0
    assert len(await entries_of(database, "acme", "usage.deleted")) == 4


@pytest.mark.usefixtures("worker")
async def test_a_plan_without_a_limit_keeps_everything(saas: Client, database: Database) -> None:
    await give_events(database, "kept", [JANUARY])
    assert await retain(saas, "kept") == RetentionReport(before=None, deleted=0)
    assert await events_of(database, "kept") == [JANUARY]


@pytest.mark.usefixtures("worker")
async def test_retention_cuts_at_the_beginning_of_a_day_of_the_tenants(
    saas: Client, database: Database
) -> None:
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=hour) for hour in range(80, 0, -1)]
    await give_events(database, "kept", hours)
    days = [datetime.now(NEW_YORK).date()]
    report = await retain(saas, "kept", keep_days=2)
    days.append(datetime.now(NEW_YORK).date())
    midnights = [datetime.combine(day - timedelta(days=2), time(), NEW_YORK) for day in days]
    assert report.before in midnights
    kept = [hour for hour in hours if hour >= report.before]
    assert await events_of(database, "kept") == kept
    assert report.deleted == len(hours) - len(kept) > 0


@pytest.mark.usefixtures("each_plan")
async def test_retention_goes_on_behind_the_batch_that_failed_and_counts_every_row(
    saas: Client, database: Database, database_urls: DatabaseUrls
) -> None:
    await give_events(database, "acme", [JANUARY + timedelta(hours=hour) for hour in range(7)])
    break_once(database_urls, "old.flight = 5")
    async with retaining(saas, 2):
        assert (await retain(saas, "acme")).deleted == 7
    assert await events_of(database, "acme") == []
    entries = await entries_of(database, "acme", "usage.deleted")
    assert [entry.details["rows"] for entry in entries] == [2, 2, 2, 1]


def break_once(urls: DatabaseUrls, condition: str) -> None:
    """Makes the first deletion of such a row fail; a sequence survives the rollback."""
    with connect(urls.owner) as owner:
        owner.execute(f"""
            create sequence breakages;
            create function break_once() returns trigger language plpgsql security definer as $$
                begin
                    if nextval('breakages') = 1 then
                        raise 'broken once';
                    end if;
                    return old;
                end
            $$;
            create trigger break_once before delete on usage_events
                for each row when ({condition}) execute function break_once()
        """)


@pytest.mark.usefixtures("each_plan")
async def test_two_runs_of_retention_side_by_side_share_the_work(
    saas: Client, database: Database
) -> None:
    await give_events(database, "acme", [JANUARY + timedelta(hours=hour) for hour in range(100)])
    async with retaining(saas, 5):
        runs = [asyncio.create_task(retain(saas, "acme")) for _ in range(3)]
        await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
        # The one that ends first has waited for the rows that the others were deleting.
        assert await events_of(database, "acme") == []
        assert sum([(await one).deleted for one in runs]) == 100
    entries = await entries_of(database, "acme", "usage.deleted")
    assert sum(entry.details["rows"] for entry in entries) == 100


@pytest.mark.parametrize("keep_days", [0, -1, 36_501])
@pytest.mark.usefixtures("worker")
async def test_days_that_are_no_retention_are_refused(saas: Client, keep_days: int) -> None:
    request = EnforceRetentionInput.model_construct(tenant_id="acme", keep_days=keep_days)
    assert (await failure(saas, EnforceRetention, request)).type == "InvalidPayload"


# Cleaning up.


@pytest.mark.usefixtures("each_plan")
async def test_documents_that_have_expired_are_deleted_and_the_others_stay(
    saas: Client, database: Database
) -> None:
    now = datetime.now(UTC)
    expiries = {
        **{f"old-{number}": now - timedelta(days=number + 1) for number in range(5)},
        "soon": now + timedelta(minutes=10),
        "never": None,
    }
    for tenant in ("acme", "globex"):
        with within(database, tenant):
            async with tenant_session() as session:
                for key, expiry in expiries.items():
                    session.add(Document(kind="test", key=key, content={}, expires_at=expiry))
    async with saas_worker(saas, Cleanup(Batches(rows=2)).delete_expired):
        for expected in (5, 0):
            report = await run(saas, CleanUpExpired, CleanUpExpiredInput(tenant_id="acme"))
            assert report.deleted["documents"] == expected
    assert await documents_of(database, "acme") == {"never", "soon"}
    assert await documents_of(database, "globex") == set(expiries)
    entries = await entries_of(database, "acme", "documents.deleted")
    assert [entry.details["rows"] for entry in entries] == [2, 2, 1]
    asked = await messages_of(database, "acme")  # so that search no longer finds them
    assert {message.payload["ref"] for message in asked} == {f"test/old-{n}" for n in range(5)}


async def documents_of(database: Database, tenant: str) -> set[str]:
    with within(database, tenant):
        async with tenant_session() as session:
            return set(await session.scalars(select(Document.key)))


# Trials.


@dataclass(frozen=True)
class Case:
    """A tenant, and its state after its trial has been checked."""

    id: str
    status: TenantStatus = TenantStatus.TRIAL
    ends_at: datetime | date | None = PAST
    subscribed: str | None = None
    becomes: TenantStatus = TenantStatus.TRIAL
    plan: str = "free"


TRIALS = [
    Case("paying", subscribed="standard", becomes=TenantStatus.ACTIVE, plan="standard"),
    Case("leaver", becomes=TenantStatus.SUSPENDED),
    Case("endless", ends_at=None),
    Case("fresh", ends_at=datetime.now(UTC) + timedelta(hours=1)),
    Case("settled", TenantStatus.ACTIVE, None, becomes=TenantStatus.ACTIVE),
    Case("paused", TenantStatus.SUSPENDED, becomes=TenantStatus.SUSPENDED),
    Case("going", TenantStatus.OFFBOARDING, becomes=TenantStatus.OFFBOARDING),
]


async def add_trial(tenants: Tenants, database: Database, case: Case) -> None:
    was_trial = case.status is not TenantStatus.ACTIVE
    await tenants.add(
        case.id,
        case.id,
        plan="free",
        status=TenantStatus.TRIAL if was_trial else TenantStatus.ACTIVE,
        time_zone=TIME_ZONE,
        trial_ends_at=case.ends_at,
    )
    await tenants.set_status(case.id, case.status)
    if case.subscribed:
        with within(database, case.id):
            async with tenant_session() as session:
                session.add(Subscription(plan=case.subscribed))


async def expire(client: Client, tenant: str) -> EndedTrial | None:
    report = await run(client, ExpireTrial, ExpireTrialInput(tenant_id=tenant))
    ended: EndedTrial | None = report.ended
    return ended


@pytest.mark.parametrize("case", TRIALS, ids=lambda case: case.id)
@pytest.mark.usefixtures("worker")
async def test_a_trial_that_is_over_ends_once_and_nothing_else_changes(
    saas: Client, database: Database, tenants: Tenants, case: Case
) -> None:
    await add_trial(tenants, database, case)
    ends = case.status is TenantStatus.TRIAL and case.becomes is not TenantStatus.TRIAL
    first = await expire(saas, case.id)
    after = await record_of(database, case.id)
    if ends:
        assert first == EndedTrial(ended_at=PAST, status=case.becomes, plan=case.plan)
    else:
        assert first is None
    assert (after.status, after.plan_id) == (case.becomes, case.plan)
    assert await expire(saas, case.id) is None
    assert (await record_of(database, case.id)).status_since == after.status_since
    entries = await entries_of(database, case.id, "trial.ended")
    assert [entry.details for entry in entries] == (
        [{"status": case.becomes, "plan": case.plan}] if ends else []
    )


async def record_of(database: Database, tenant: str) -> TenantRow:
    async with database.platform_session("read a tenant in a test") as session:
        return (await session.scalars(select(TenantRow).where(TenantRow.id == tenant))).one()


@pytest.mark.usefixtures("worker")
async def test_a_tenant_whose_trial_ended_is_told_when_and_resumed_is_active(
    saas: Client, database: Database, tenants: Tenants
) -> None:
    await add_trial(tenants, database, Case("leaver", ends_at=date(2026, 3, 1)))
    ended = await expire(saas, "leaver")
    assert ended is not None
    assert ended.ended_at == datetime(2026, 3, 2, 5, tzinfo=UTC)
    assert (await record_of(database, "leaver")).status_reason == "the trial ended on 2026-03-01"
    assert (await tenants.resume("leaver")).status is TenantStatus.ACTIVE
    assert await expire(saas, "leaver") is None


@pytest.mark.usefixtures("worker")
async def test_a_subscription_to_a_plan_that_is_gone_fails_and_changes_nothing(
    saas: Client, database: Database, tenants: Tenants
) -> None:
    await add_trial(tenants, database, Case("paying", subscribed="gold"))
    request = ExpireTrialInput(tenant_id="paying")
    assert (await failure(saas, ExpireTrial, request)).type == "PlanUnknown"
    assert (await record_of(database, "paying")).status == TenantStatus.TRIAL


@pytest.mark.usefixtures("worker")
async def test_a_fan_out_ends_each_trial_that_is_over(
    saas: Client, database: Database, tenants: Tenants
) -> None:
    for case in TRIALS:
        await add_trial(tenants, database, case)
    for run_number, (succeeded, skipped) in enumerate([(4, 0), (2, 0)]):
        result = await saas.execute_workflow(
            FanOut.run,
            FanOutInput(
                job="trial.expiry", tick=f"tick-{run_number}", statuses=[TenantStatus.TRIAL]
            ),
            id=f"platform/trial.expiry/tick-{run_number}",
            task_queue=Queue.DEFAULT,
        )
        assert (result.succeeded, result.skipped, result.failed) == (succeeded, skipped, 0)
    found = {case.id: (await record_of(database, case.id)).status for case in TRIALS}
    assert found == {case.id: case.becomes for case in TRIALS}


async def test_ending_a_trial_again_with_the_same_time_answers_as_before(
    database: Database, tenants: Tenants
) -> None:
    await add_trial(tenants, database, Case("leaver"))
    at = datetime.now(UTC)
    first = await tenants.end_trial("leaver", plan=None, at=at)
    assert first is not None
    assert await tenants.end_trial("leaver", plan=None, at=at) == first
    assert await tenants.end_trial("leaver", plan=None, at=at + timedelta(seconds=1)) is None


async def test_a_trial_that_was_prolonged_meanwhile_goes_on(
    database: Database, tenants: Tenants
) -> None:
    await add_trial(tenants, database, Case("fresh", ends_at=PAST))
    assert await tenants.end_trial("fresh", plan=None, at=PAST - timedelta(microseconds=1)) is None
    assert (await record_of(database, "fresh")).status == TenantStatus.TRIAL


async def test_a_trial_of_nobody_and_on_no_plan_is_refused(
    database: Database, tenants: Tenants
) -> None:
    with pytest.raises(TenantUnknown):
        await tenants.end_trial("nobody", plan=None, at=PAST)
    await add_trial(tenants, database, Case("paying"))
    with pytest.raises(PlanUnknown, match='there is no plan "gold"'):
        await tenants.end_trial("paying", plan="gold", at=PAST)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (date(2026, 12, 1), datetime(2026, 12, 2, 5, tzinfo=UTC)),
        (date(2026, 11, 1), datetime(2026, 11, 2, 5, tzinfo=UTC)),  # the clocks change on that day
        (PAST, PAST),
        (None, None),
    ],
)
async def test_a_trials_last_day_is_the_tenants_own(
    database: Database, tenants: Tenants, given: datetime | date | None, kept: datetime | None
) -> None:
    await add_trial(tenants, database, Case("fresh", ends_at=given))
    found = await ControlPlaneDirectory(database).find("fresh")
    assert found is not None
    assert found.trial_ends_at == kept


@pytest.mark.parametrize(
    ("status", "given", "message"),
    [
        (
            TenantStatus.ACTIVE,
            date(2026, 12, 1),
            "x would be active, and only a trial can have an end",
        ),
        (TenantStatus.TRIAL, PAST.replace(tzinfo=None), "no offset. Give a day in America/New_Yo"),
    ],
)
async def test_an_end_that_no_trial_can_have_is_refused(
    tenants: Tenants, status: TenantStatus, given: datetime | date, message: str
) -> None:
    with pytest.raises(TrialEndRefused, match=message):
        await tenants.add(
            "x", "x", plan="free", status=status, time_zone=TIME_ZONE, trial_ends_at=given
        )


# Reports.


@cache
def flights_of(day: date) -> list[Flight]:
    """JetBlue's flights of that day in New York, and of the days before and after."""
    days = {day + timedelta(days=offset) for offset in (-1, 0, 1)}
    return [
        flight for flight in flights() if flight.tenant_id == "b6" and local_date(flight) in days
    ]


def local_date(flight: Flight) -> date:
    return datetime.fromisoformat(flight.time_hour).astimezone(NEW_YORK).date()


async def report(client: Client, tenant: str, period: str) -> DailyReport:
    request = ReportDailyInput(tenant_id=tenant, period=period)
    made = await run(client, ReportDaily, request)
    assert isinstance(made, DailyReport)
    return made


@pytest.mark.parametrize("period", ["2013-03-10", "2013-11-03"])
@pytest.mark.usefixtures("worker")
async def test_a_report_is_right_on_the_days_when_the_clocks_change(
    saas: Client, database: Database, tenants: Tenants, period: str
) -> None:
    await tenants.add("b6", "JetBlue", plan="enterprise", time_zone=TIME_ZONE)
    near = flights_of(date.fromisoformat(period))
    await load_events(database, "b6", near)
    that_day = [flight for flight in near if local_date(flight).isoformat() == period]
    delays = [f.departure_delay for f in that_day if f.departure_delay is not None]
    mean = Decimal(sum(delays)) / len(delays)
    routes = Counter((flight.origin, flight.destination) for flight in that_day)
    busiest = sorted(routes.items(), key=lambda item: (-item[1], item[0]))[:5]

    assert await report(saas, "b6", period) == DailyReport(
        period=period,
        events=len(that_day),
        cancelled=sum(flight.cancelled for flight in that_day),
        mean_delay=float(mean.quantize(Decimal("0.1"), ROUND_HALF_UP)),
        most_delay=max(delays),
        busiest_routes=[
            Route(origin=origin, destination=destination, events=events)
            for (origin, destination), events in busiest
        ],
        made=True,
    )
    assert await documents_of(database, "b6") == {period}


@pytest.mark.usefixtures("worker")
async def test_a_day_has_one_report_though_later_events_come(
    saas: Client, database: Database
) -> None:
    day = datetime(2013, 3, 10, 12, tzinfo=UTC)
    await give_events(database, "kept", [day])
    first = await report(saas, "kept", "2013-03-10")
    await give_events(database, "kept", [day + timedelta(hours=1)])
    again = await asyncio.gather(*(report(saas, "kept", "2013-03-10") for _ in range(4)))
    assert (first.events, first.mean_delay, first.made) == (1, None, True)
    assert again == [first.model_copy(update={"made": False})] * 4
    [entry] = await entries_of(database, "kept", "report.made")
    assert (entry.subject, entry.details) == ("2013-03-10", {"events": 1})


@pytest.mark.usefixtures("worker")
async def test_a_report_is_kept_as_long_as_the_plan_keeps_usage(
    saas: Client, database: Database, tenants: Tenants
) -> None:
    await tenants.add("limited", "limited", plan="standard")
    for tenant, days in {"kept": None, "limited": timedelta(730)}.items():
        assert (await report(saas, tenant, "2013-03-10")).events == 0
        with within(database, tenant):
            async with tenant_session() as session:
                document = (await session.scalars(select(Document))).one()
        assert document.kind == KIND
        if days is None:
            assert document.expires_at is None
        else:
            assert document.expires_at is not None
            assert round((document.expires_at - document.created_at) / days, 3) == 1


@pytest.mark.usefixtures("worker")
async def test_a_day_that_is_not_over_is_refused_and_leaves_no_report(
    saas: Client, database: Database
) -> None:
    today = datetime.now(NEW_YORK).date().isoformat()
    error = await failure(saas, ReportDaily, ReportDailyInput(tenant_id="kept", period=today))
    assert (error.type, error.non_retryable) == ("DayNotOver", True)
    assert await documents_of(database, "kept") == set()


@pytest.mark.usefixtures("worker")
async def test_a_plan_without_reports_gets_none(saas: Client) -> None:
    request = ReportDailyInput(tenant_id="acme", period="2013-03-10")
    assert (await failure(saas, ReportDaily, request)).type == "FeatureNotEnabled"


# The audit log.


async def add_entries(database: Database, tenant: str, entries: Sequence[dict[str, Any]]) -> None:
    with within(database, tenant):
        async with tenant_session() as session:
            for entry in entries:
                await session.execute(insert(AuditEntry).values(subject="x", details={}, **entry))


@pytest.mark.usefixtures("worker")
async def test_a_days_audit_entries_are_counted_by_action_and_actor_and_counted_anew_each_time(
    saas: Client, database: Database
) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    entries = [
        {"at": day - timedelta(microseconds=1), "action": "a", "actor": "ann"},
        {"at": day, "action": "a", "actor": "ann"},
        {"at": day + timedelta(hours=23, minutes=59), "action": "a", "actor": "ann"},
        {"at": day + timedelta(hours=3), "action": "a", "actor": "bob"},
        {"at": day + timedelta(hours=3), "action": "b", "actor": "bob"},
        {"at": day + timedelta(days=1), "action": "a", "actor": "ann"},
    ]
    await add_entries(database, "acme", entries)
    await add_entries(database, "globex", entries)
    request = AggregateAuditInput(tenant_id="acme", period="2026-03-01")
    for _ in range(2):
        summary = await run(saas, AggregateAuditLog, request)
        assert summary == AuditSummary(period="2026-03-01", counts=3, entries=4)
        assert await counts_of(database, "acme") == {
            ("a", "ann"): 2,
            ("a", "bob"): 1,
            ("b", "bob"): 1,
        }
    await add_entries(database, "acme", [{"at": day, "action": "b", "actor": "bob"}])
    assert (await run(saas, AggregateAuditLog, request)).entries == 5
    assert (await counts_of(database, "acme"))["b", "bob"] == 2
    assert await counts_of(database, "globex") == {}


async def counts_of(database: Database, tenant: str) -> dict[tuple[str, str], int]:
    with within(database, tenant):
        async with tenant_session() as session:
            rows = (await session.scalars(select(DailyAudit))).all()
    return {(row.action, row.actor): row.entries for row in rows}


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_entries set actor = 'nobody'",
        "delete from audit_entries",
        "truncate audit_entries",
    ],
)
async def test_the_database_refuses_to_change_the_audit_log(
    database: Database, statement: str
) -> None:
    await add_entries(database, "acme", [{"action": "a", "actor": "ann"}])
    with within(database, "acme"):
        with pytest.raises(ProgrammingError, match="permission denied for table audit_entries"):
            async with tenant_session() as session:
                await session.execute(text(statement))
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(AuditEntry)) == 1


@pytest.mark.usefixtures("worker")
async def test_an_invoice_has_one_entry_however_often_it_is_asked_for(
    saas: Client, database: Database
) -> None:
    request = BillingCycleInput(tenant_id="acme", period="2013-01")
    await asyncio.gather(*(run(saas, BillingCycle, request, key=f"{n}") for n in range(5)))
    [entry] = await entries_of(database, "acme", "invoice.issued")
    assert entry.subject == "2013-01"
    assert entry.actor.startswith("acme/billing.cycle/")
    assert entry.details == {"total_cents": 0, "currency": "USD"}


async def test_an_effect_of_another_database_role_is_recorded_once(database: Database) -> None:
    async def record(once: str) -> None:
        with within(database, "acme"):
            async with tenant_session() as session:
                await audit.record(session, "trial.ended", "x", once=once)

    environment = ActivityEnvironment()
    for once in ("one", "one", "another"):
        await environment.run(record, once)
    assert len(await entries_of(database, "acme", "trial.ended")) == 2
