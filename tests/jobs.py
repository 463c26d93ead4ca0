"""The test jobs: each hop once, and marks wherever user code could run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, model_validator
from temporalio import activity, workflow
from temporalio.common import (
    Priority,
    RawValue,
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
)
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.inputs import PlatformInput, TenantInput
from temporal_tenancy.core.jobs import JobPriority, platform_job, tenant_job
from temporal_tenancy.core.scope import TenantScope, current_scope, current_tenant, enter
from temporal_tenancy.sdk import agreement
from tests import marks

SOON = timedelta(seconds=20)
ONCE = RetryPolicy(maximum_attempts=1)


def scope_here() -> str:
    return str(current_scope())


class Note(BaseModel):
    text: str = ""


class NamedNote(TenantInput):
    text: str = ""


@tenant_activity
async def tell_tenant(note: Note) -> str:
    info = activity.info()
    marks.leave(info.workflow_id or "", f"activity:{current_tenant()}")
    return current_tenant()


@tenant_activity
def tell_tenant_sync(note: Note) -> str:
    return current_tenant()


@tenant_activity
async def tell_named_tenant(note: NamedNote) -> str:
    return current_tenant()


@tenant_activity
async def tell_tenant_on_third_attempt(note: Note) -> str:
    attempt = activity.info().attempt
    marks.leave(activity.info().workflow_id or "", f"attempt {attempt}:{current_tenant()}")
    if attempt < 3:
        raise ApplicationError("not yet", next_retry_delay=timedelta(milliseconds=10))
    return current_tenant()


@platform_activity("tells the scope it runs in")
async def tell_platform(note: Note) -> str:
    return scope_here()


@platform_activity("changes a tenant's record")
async def tell_platform_of(note: NamedNote) -> str:
    return f"{scope_here()} about {note.tenant_id}"


@tenant_activity
async def fairness_of_this(note: Note) -> tuple[str | None, float | None, int | None]:
    priority = activity.info().priority
    return priority.fairness_key, priority.fairness_weight, priority.priority_key


@tenant_activity
def tell_tenant_in_a_thread(note: Note) -> str:
    return current_tenant()


@tenant_activity
async def tell_tenant_through_threads_and_tasks(note: Note) -> str:
    seen = {
        await asyncio.to_thread(current_tenant),
        await asyncio.create_task(_tenant_in_a_task()),
        current_tenant(),
    }
    return ",".join(sorted(seen))


@tenant_activity
async def change_the_scope_and_fail(note: Note) -> str:
    # Badly written code: it enters a scope and never leaves it.
    enter(TenantScope(current_tenant())).__enter__()
    raise ApplicationError("failed in a scope of its own", non_retryable=True)


@tenant_activity
async def complete_later(note: Note) -> str:
    marks.leave(activity.info().workflow_id or "", activity.info().task_token.hex())
    activity.raise_complete_async()


@activity.defn(name="third_party.activity")
async def third_party_activity() -> str:
    return scope_here()


class EchoInput(TenantInput):
    text: str = ""


async def tell(note: str = "") -> str:
    return await workflow.execute_activity(
        tell_tenant, Note(text=note), start_to_close_timeout=SOON, retry_policy=ONCE
    )


@tenant_job("echo.tell", queue="default", priority=JobPriority.HIGH)
class Echo:
    """Tells which tenant an activity of it runs in."""

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        return await tell(job.text)


@tenant_job("echo.report", queue="default", feature="reports")
class Report:
    """Needs a feature."""

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        return await tell()


@tenant_job("echo.farewell", queue="default", statuses=[TenantStatus.OFFBOARDING])
class Farewell:
    """Runs only for tenants that are leaving."""

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        return await tell()


@tenant_job("echo.marked", queue="default")
class Marked:
    """Leaves a mark wherever user code can run."""

    @workflow.init
    def __init__(self, job: EchoInput) -> None:
        marks.leave(workflow.info().workflow_id, "init")
        self.done = False

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        marks.leave(workflow.info().workflow_id, "run")
        return await tell()

    @workflow.signal
    def poke(self, note: Note) -> None:
        marks.leave(workflow.info().workflow_id, "signal")

    @workflow.update
    def change(self, note: Note) -> str:
        marks.leave(workflow.info().workflow_id, "update")
        return note.text


@tenant_job("echo.mailbox", queue="default")
class Mailbox:
    """Takes messages until it is told to end; each handler calls an activity."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.ended = False
        self.again = False

    @workflow.run
    async def run(self, job: EchoInput) -> list[str]:
        await workflow.wait_condition(lambda: self.ended or self.again)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self.again:
            workflow.continue_as_new(job)
        return self.seen

    @workflow.signal
    async def poke(self, note: Note) -> None:
        self.seen.append(f"signal {note.text}: {await tell()} {current_tenant()}")

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.signal
    def renew(self) -> None:
        self.again = True

    @workflow.update
    async def change(self, note: Note) -> str:
        return await tell()

    @workflow.update
    async def guarded_change(self, note: Note) -> str:
        return await tell()

    @guarded_change.validator
    def check_change(self, note: Note) -> None:
        if note.text == "bad":
            raise ValueError("bad note")

    @workflow.query
    def peek(self) -> str:
        return current_tenant()

    @workflow.query
    def seen_so_far(self) -> list[str]:
        return self.seen


class HopsInput(TenantInput):
    depth: int = 0


@tenant_job("echo.hops", queue="default")
class Hops:
    """Takes every hop there is, and returns the tenant seen behind each."""

    @workflow.run
    async def run(self, job: HopsInput) -> dict[str, Any]:
        if job.depth == 0:
            workflow.continue_as_new(job.model_copy(update={"depth": 1}))
        seen: dict[str, Any] = {"run": current_tenant()}
        seen["activity"] = await tell()
        seen["sync activity"] = await workflow.execute_activity(
            tell_tenant_sync, Note(), start_to_close_timeout=SOON
        )
        seen["local activity"] = await workflow.execute_local_activity(
            tell_tenant, Note(), start_to_close_timeout=SOON
        )
        seen["retried activity"] = await workflow.execute_activity(
            tell_tenant_on_third_attempt, Note(), start_to_close_timeout=SOON
        )
        seen["platform activity"] = await workflow.execute_activity(
            tell_platform_of, NamedNote(tenant_id=job.tenant_id), start_to_close_timeout=SOON
        )
        seen["child"] = await workflow.execute_child_workflow(
            Echo.run, EchoInput(tenant_id=job.tenant_id)
        )
        mailbox = await workflow.start_child_workflow(
            Mailbox.run, EchoInput(tenant_id=job.tenant_id), id=f"{job.tenant_id}/echo.mailbox/hop"
        )
        await mailbox.signal(Mailbox.poke, Note(text="child"))
        external: workflow.ExternalWorkflowHandle[Mailbox]
        external = workflow.get_external_workflow_handle_for(Mailbox.run, mailbox.id)
        await external.signal(Mailbox.poke, Note(text="external"))
        await mailbox.signal(Mailbox.end)
        seen["signals"] = await mailbox
        seen["task"] = await asyncio.create_task(_tenant_in_a_task())
        return seen


async def _tenant_in_a_task() -> str:
    return current_tenant()


class StrayInput(TenantInput):
    how: str
    other: str = "globex"


@tenant_job("echo.stray", queue="default")
class Stray:
    """Tries to leave its tenant, one way a run."""

    @workflow.run
    async def run(self, job: StrayInput) -> str:
        other = job.other
        if job.how == "child":
            return await workflow.execute_child_workflow(Echo.run, EchoInput(tenant_id=other))
        if job.how == "child id":
            return await workflow.execute_child_workflow(
                Echo.run, EchoInput(tenant_id=job.tenant_id), id=f"{other}/echo.tell/x"
            )
        if job.how == "unknown child":
            await workflow.execute_child_workflow("some.unknown", NamedNote(tenant_id=other))
        if job.how == "platform child":
            await workflow.execute_child_workflow(Platform.run, PlatformNote())
        if job.how == "activity":
            return await workflow.execute_activity(
                tell_named_tenant, NamedNote(tenant_id=other), start_to_close_timeout=SOON
            )
        if job.how == "platform activity":
            return await workflow.execute_activity(
                tell_platform, Note(), start_to_close_timeout=SOON
            )
        if job.how == "platform activity about another":
            return await workflow.execute_activity(
                tell_platform_of, NamedNote(tenant_id=other), start_to_close_timeout=SOON
            )
        if job.how == "signal":
            stranger = workflow.get_external_workflow_handle(f"{other}/echo.mailbox/x")
            await stranger.signal("end")
        if job.how == "continue as new":
            workflow.continue_as_new(job.model_copy(update={"tenant_id": other}))
        if job.how == "continue as another job":
            workflow.continue_as_new(EchoInput(tenant_id=job.tenant_id), workflow=Echo.run)
        if job.how == "nexus":
            nexus = workflow.create_nexus_client(service="service", endpoint="endpoint")
            await nexus.execute_operation("operation", job, output_type=str)
        raise ApplicationError(f"{job.how} was let through", non_retryable=True)


@tenant_job("echo.later", queue="default")
class Later:
    """Waits for an activity that is completed from outside."""

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        return await workflow.execute_activity(
            complete_later, Note(), start_to_close_timeout=SOON, retry_policy=ONCE
        )


async def reach(how: str, target: str) -> None:
    """Names another workflow in a command; what the server answers is not looked at."""
    with contextlib.suppress(FailureError):
        if how in ("child", "child with attributes"):
            foreign = [SearchAttributePair(agreement.TENANT_ID, "globex")]
            await workflow.start_child_workflow(
                "some.unknown",
                id=target,
                task_queue="served-by-nobody",
                search_attributes=TypedSearchAttributes(
                    foreign if how == "child with attributes" else []
                ),
            )
        elif how == "known child":
            await workflow.start_child_workflow(
                "echo.tell", EchoInput(tenant_id="acme"), id=target, task_queue="served-by-nobody"
            )
        elif how == "cancel":
            await workflow.get_external_workflow_handle(target).cancel()
        elif how == "signal":
            await workflow.get_external_workflow_handle(target).signal("end")


class ReachInput(TenantInput):
    how: str
    target: str


@tenant_job("echo.reach", queue="default")
class Reach:
    """Names another workflow in a command, waits to be told to end, and may do so again."""

    def __init__(self) -> None:
        self.ended = False
        self.then: str | None = None

    @workflow.run
    async def run(self, job: ReachInput) -> str:
        if job.how == "continue as new":
            workflow.continue_as_new(
                job.model_copy(update={"how": "nothing"}),
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(agreement.TENANT_ID, job.target)]
                ),
            )
        await reach(job.how, job.target)
        await workflow.wait_condition(lambda: self.ended)
        if self.then:
            await reach(job.how, self.then)
        return job.how

    @workflow.signal
    def end(self, then: str | None = None) -> None:
        self.then = then
        self.ended = True

    @workflow.query
    def is_ended(self) -> bool:
        return self.ended


class ReachOfThePlatform(PlatformInput):
    how: str
    target: str


@platform_job("echo.reach_of_the_platform", reason="reaches into tenants", queue="default")
class PlatformReach:
    """Names a tenant's workflow in a command."""

    @workflow.run
    async def run(self, job: ReachOfThePlatform) -> str:
        await reach(job.how, job.target)
        return job.how


@workflow.defn(name="third_party.reach")
class ThirdPartyReach:
    """Somebody else's workflow, exempted by name, that names a tenant's in a command."""

    @workflow.run
    async def run(self, target: str) -> str:
        await reach("cancel", target)
        return "cancel"


class PlatformNote(PlatformInput):
    enter: str = ""
    text: str = ""


@platform_job("echo.platform", reason="tests the platform's scope", queue="default")
class Platform:
    """Works for the platform, and enters a tenant when its input names one."""

    @workflow.run
    async def run(self, job: PlatformNote) -> list[str]:
        seen = [scope_here()]
        seen.append(
            await workflow.execute_activity(tell_platform, Note(), start_to_close_timeout=SOON)
        )
        if job.text == "unnamed":
            await tell()
        if job.enter:
            seen.append(
                await workflow.execute_activity(
                    tell_named_tenant, NamedNote(tenant_id=job.enter), start_to_close_timeout=SOON
                )
            )
            seen.append(
                await workflow.execute_child_workflow(Echo.run, EchoInput(tenant_id=job.enter))
            )
        return seen


@platform_job("echo.sweep", reason="takes no input", queue="default")
class Sweep:
    """Takes no input."""

    @workflow.run
    async def run(self) -> str:
        return scope_here()


@tenant_job("echo.fairness", queue="default", priority=JobPriority.HIGH)
class Fairness:
    """Returns the fairness key, weight and priority key of itself and of an activity."""

    @workflow.run
    async def run(self, job: EchoInput) -> list[Any]:
        own = workflow.info().priority
        of_activity = await workflow.execute_activity(
            fairness_of_this, Note(), start_to_close_timeout=SOON
        )
        return [[own.fairness_key, own.fairness_weight, own.priority_key], of_activity]


@tenant_job("echo.greedy", queue="default")
class Greedy:
    """Asks for another tenant's fairness key and a large share, for an activity and a child."""

    @workflow.run
    async def run(self, job: EchoInput) -> list[Any]:
        greedy = Priority(fairness_key="globex", fairness_weight=1000.0)
        of_activity = await workflow.execute_activity(
            fairness_of_this, Note(), start_to_close_timeout=SOON, priority=greedy
        )
        child = await workflow.execute_child_workflow(
            Fairness.run, EchoInput(tenant_id=job.tenant_id), id="greedy", priority=greedy
        )
        return [of_activity, *child]


@workflow.defn(name="third_party.workflow")
class ThirdParty:
    """Somebody else's workflow, exempted by name."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(third_party_activity, start_to_close_timeout=SOON)


class FairnessOfChildrenInput(PlatformInput):
    tenants: list[str]


@platform_job("echo.fairness_of_children", reason="starts children", queue="default")
class FairnessOfChildren:
    """Returns what `echo.fairness` says for each tenant."""

    @workflow.run
    async def run(self, job: FairnessOfChildrenInput) -> list[list[Any]]:
        return [
            await workflow.execute_child_workflow(Fairness.run, EchoInput(tenant_id=tenant))
            for tenant in job.tenants
        ]


@tenant_job("echo.flaky", queue="default")
class Flaky:
    """Tells its tenant, and fails."""

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        await tell()
        raise ApplicationError("always")


@tenant_job("echo.late_handlers", queue="default")
class LateHandlers:
    """Sets its handlers while it runs: an update without a validator, and a dynamic signal."""

    @workflow.run
    async def run(self, job: EchoInput) -> list[str]:
        seen: list[str] = []

        async def late(note: Note) -> str:
            seen.append(f"update by {current_tenant()}")
            return current_tenant()

        def any_signal(name: str, args: Sequence[RawValue]) -> None:
            seen.append(f"signal {name}")

        workflow.set_update_handler("late", late)
        workflow.set_dynamic_signal_handler(any_signal)
        await workflow.wait_condition(lambda: "signal end" in seen)
        return seen


@tenant_job("echo.upserter", queue="default")
class Upserter:
    """Says that it is somebody else's."""

    @workflow.run
    async def run(self, job: EchoInput) -> None:
        workflow.upsert_search_attributes([agreement.TENANT_ID.value_set("globex")])


class Choosy(TenantInput):
    text: str = ""

    @model_validator(mode="before")
    @classmethod
    def badly_written(cls, data: Any) -> Any:
        data.setdefault("text", "")  # an AttributeError where the input is no mapping
        return data


@tenant_job("echo.choosy", queue="default")
class ChoosyJob:
    """Has a validator of its own, badly written."""

    @workflow.run
    async def run(self, job: Choosy) -> str:
        return "ran"


class Secret(BaseModel):
    pin: int


@tenant_activity
async def fail_on_a_value(note: Note) -> None:
    Secret.model_validate({"pin": "4111-secret-card"})


@tenant_activity
async def tell_anything(value: Any, more: Any = None) -> str:
    return current_tenant()


class AboutOthersInput(TenantInput):
    how: str


@tenant_job("echo.about_others", queue="default")
class AboutOthers:
    """Names another tenant where no type says so, or leaks a value."""

    @workflow.run
    async def run(self, job: AboutOthersInput) -> None:
        named: dict[str, list[Any]] = {
            "a mapping": [{"tenant_id": "globex"}],
            "a list": [[{"tenant_id": "globex"}]],
            "a list of inputs": [[NamedNote(tenant_id="globex")]],
            "a second argument": ["x", NamedNote(tenant_id="globex")],
        }
        if job.how == "a value":
            await workflow.execute_activity(
                fail_on_a_value, Note(), start_to_close_timeout=SOON, retry_policy=ONCE
            )
        elif job.how == "a child":
            await workflow.execute_child_workflow("echo.tell", {"tenant_id": "globex"})
        else:
            await workflow.execute_activity(
                "tell_anything", args=named[job.how], start_to_close_timeout=SOON
            )


remembered: list[str] = []


@tenant_job("echo.remember", queue="default")
class Remember:
    """Keeps something in its module's memory, and returns what is there."""

    @workflow.run
    async def run(self, job: EchoInput) -> list[str]:
        remembered.append(job.tenant_id)
        return remembered


@tenant_job("echo.waiter", queue="default")
class Waiter:
    """Waits for a signal: it may be open while an application gets the plugin."""

    def __init__(self) -> None:
        self.ended = False

    @workflow.run
    async def run(self, job: EchoInput) -> str:
        await workflow.wait_condition(lambda: self.ended)
        return job.tenant_id

    @workflow.signal
    def end(self) -> None:
        self.ended = True


class MixedInput(TenantInput):
    rounds: int


@tenant_job("echo.mixed", queue="default")
class Mixed:
    """Runs every kind of activity side by side, some failing, and returns the tenants seen."""

    @workflow.run
    async def run(self, job: MixedInput) -> list[str]:
        seen: list[str] = []
        for _ in range(job.rounds):
            activities: list[Any] = [
                tell_tenant,
                tell_tenant_in_a_thread,
                tell_tenant_through_threads_and_tasks,
            ]
            told = await asyncio.gather(
                *(
                    workflow.execute_activity(
                        kind, Note(), start_to_close_timeout=SOON, result_type=str
                    )
                    for kind in activities
                )
            )
            seen.extend(told)
            with contextlib.suppress(ActivityError):
                await workflow.execute_activity(
                    change_the_scope_and_fail, Note(), start_to_close_timeout=SOON
                )
            seen.append(current_tenant())
        return seen


@workflow.defn(name="third_party.in_tenancy")
class ThirdPartyInTenancy:
    """Somebody else's workflow, exempted by name, that calls a tenant's activity."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            tell_tenant, Note(), start_to_close_timeout=SOON, retry_policy=RetryPolicy()
        )


EXEMPT = {
    "third_party.in_tenancy": "shows that an exempted workflow has no scope to give",
    "third_party.reach": "shows that what an exempted workflow names is its own affair",
    "third_party.workflow": "a plugin's own, it touches no tenant's data",
    "third_party.activity": "a plugin's own, it touches no tenant's data",
}
WORKFLOWS: list[type] = [
    Greedy,
    Echo,
    Report,
    Farewell,
    Marked,
    Mailbox,
    Hops,
    Stray,
    Platform,
    Sweep,
    Fairness,
    FairnessOfChildren,
    Flaky,
    LateHandlers,
    Upserter,
    Mixed,
    Waiter,
    ChoosyJob,
    AboutOthers,
    Remember,
    Later,
    Reach,
    PlatformReach,
    ThirdParty,
    ThirdPartyInTenancy,
    ThirdPartyReach,
]
ACTIVITIES: list[Callable[..., Any]] = [
    tell_tenant,
    tell_tenant_sync,
    tell_named_tenant,
    tell_tenant_on_third_attempt,
    tell_platform,
    tell_platform_of,
    fairness_of_this,
    tell_tenant_in_a_thread,
    tell_tenant_through_threads_and_tasks,
    change_the_scope_and_fail,
    fail_on_a_value,
    tell_anything,
    complete_later,
    third_party_activity,
]
