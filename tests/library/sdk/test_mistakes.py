"""Mistakes that engineers make in jobs: each is told in a sentence that says what to do."""

from __future__ import annotations

import ast
import asyncio
import gc
import re
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.errors import ConfigurationError, NotDeterministic, TooLarge
from temporal_tenancy.core.failures import root_cause
from temporal_tenancy.core.jobs import tenant_job
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk.code_checks import check_activity, check_workflow
from tests.fixtures.jobs import mistaken_jobs as mistakes
from tests.fixtures.temporal import make_worker


@pytest.fixture
async def worker(client: Client, queue: str) -> AsyncIterator[Worker]:
    activities = [mistakes.make_text, mistakes.take_text, mistakes.beat_text]
    async with make_worker(
        client, queue, workflows=[mistakes.MakeMistake], activities=activities
    ) as running:
        yield running


async def start(client: Client, queue: str, how: str, **more: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        mistakes.MakeMistake.run,
        mistakes.MistakeInput(tenant_id="acme", how=how, **more),
        id=f"acme/mistake.make/{uuid.uuid4()}",
        task_queue=queue,
    )


@pytest.mark.parametrize(
    ("how", "type", "words"),
    [
        ("session", "ScopeMissing", "workflow code is replayed and may not use the database."),
        ("current session", "ScopeMissing", "Use it in an activity."),
        ("coroutine", "NotAwaited", "execute_activity() was passed or returned without await"),
        (
            "unfit input of an activity",
            "InvalidPayload",
            "the input of the activity take_text, called by mistake.make, does not fit: ",
        ),
        (
            "foreign child",
            "TenantMismatch",
            "says globex. (tests/fixtures/jobs/mistaken_jobs",
        ),
        ("result of an activity", "TooLarge", "the activity make_text"),
        ("heartbeat", "TooLarge", "the activity beat_text"),
        ("input of an activity", "TooLarge", "of mistake.make"),
        ("result", "TooLarge", "2,097,152. Keep it in a store"),
    ],
)
async def test_a_mistake_fails_the_run_with_what_to_do(
    client: Client, worker: Worker, queue: str, how: str, type: str, words: str
) -> None:
    handle = await start(client, queue, how)
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 60)
    assert caught.value.cause is not None
    cause = root_cause(caught.value.cause)
    assert isinstance(cause, ApplicationError)
    assert (cause.type, words in cause.message) == (type, True), cause.message


NOT_REPLAYED = [
    (
        "now",
        "datetime.datetime.now() (tests/fixtures/jobs/",
        ", in run), which gives",
    ),
    ("today", "datetime.date.today()", "Use workflow.now(),"),
    ("time", "time.time()", "Use workflow.time(),"),
    ("sleep", "time.sleep()", "Use await workflow.sleep(...),"),
    ("random", "random.random()", "Use workflow.random(),"),
    ("uuid", "uuid.uuid4()", "Use workflow.uuid4(),"),
    (
        "file",
        "workflow code uses open (tests/fixtures/jobs/",
        "Use an activity for files",
    ),
    (
        "http",
        "workflow code uses urllib.request.urlopen (tests/fixtures/jobs/mistaken_jobs.py, line ",
        "Use an activity for files",
    ),
    (
        "connection",
        "workflow code does input or output with asyncio.open_connection (tests/fixtures/jobs/",
        "Use an activity",
    ),
]
BUGS = [
    ("bug", "KeyError", r"'plan' \(tests/fixtures/jobs/mistaken_jobs\.py, line \d+, in run\)"),
    ("assertion", "AssertionError", r"\(tests/fixtures/jobs/mistaken_jobs\.py, line \d+, in run\)"),
    (
        "unfit result of an activity",
        "InvalidPayload",
        r"the result of the activity take_text does not fit: .+",
    ),
]


async def test_an_ordinary_exception_of_workflow_code_says_where_it_was_raised(
    client: Client, worker: Worker, queue: str
) -> None:
    handles = [await start(client, queue, how) for how, *_ in BUGS]
    found = await asyncio.gather(*map(failed_task, handles))
    for handle in handles:
        await handle.terminate()
    for (how, kind, pattern), (type, message) in zip(BUGS, found, strict=True):
        assert type == kind, (how, message)
        assert re.fullmatch(pattern, message), (how, message)


async def test_what_is_not_replayed_is_named_in_the_history_with_what_to_use(
    client: Client, worker: Worker, queue: str
) -> None:
    """The run stays open, so that a release that mends it lets it go on."""
    handles = [await start(client, queue, how) for how, *_ in NOT_REPLAYED]
    found = await asyncio.gather(*map(failed_task, handles))
    for handle in handles:
        await handle.terminate()
    for (how, name, instead), (type, message) in zip(NOT_REPLAYED, found, strict=True):
        assert type == NotDeterministic.__name__, (how, message)
        assert name in message, (how, message)
        assert instead in message, (how, message)


async def failed_task(handle: WorkflowHandle[Any, Any]) -> tuple[str, str]:
    """Waits until a workflow's task has failed, and returns the failure's type and message."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failure = event.workflow_task_failed_event_attributes.failure
            return failure.application_failure_info.type, failure.message
    raise AssertionError("the run has ended")


async def test_what_a_client_sends_is_measured_before_it_is_sent(
    client: Client, worker: Worker, queue: str
) -> None:
    text = "x" * mistakes.TOO_LONG
    with pytest.raises(TooLarge, match=r"a value has 2,097,\d{3} bytes"):
        await start(client, queue, "wait", text=text)
    handle = await start(client, queue, "wait")
    with pytest.raises(TooLarge, match="pass a reference to it"):
        await handle.signal(mistakes.MakeMistake.tell, text)
    await handle.signal(mistakes.MakeMistake.tell, "x" * 2_000_000)
    assert await handle.result() is None


@pytest.mark.parametrize(
    "wrong", [{}, {"tenant_id": "acme"}, {"tenant_id": "a b", "how": "now"}, {"tenant_id": 1}, "x"]
)
async def test_a_wrong_start_ends_whatever_its_retry_policy(
    raw_client: Client, worker: Worker, queue: str, wrong: Any
) -> None:
    handle = await raw_client.start_workflow(
        "mistake.make",
        wrong,
        id=f"acme/mistake.make/{uuid.uuid4()}",
        task_queue=queue,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1)),
    )
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 60)
    described = await handle.describe()
    assert (described.status, described.run_id) == (
        WorkflowExecutionStatus.FAILED,
        handle.result_run_id,
    )


async def helper() -> None:
    return None


@tenant_job("mistake.lost_activity", queue="bulk")
class LostActivity:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> None:
        workflow.execute_activity(  # type: ignore[unused-coroutine]
            mistakes.take_text, "", start_to_close_timeout=mistakes.SECONDS
        )


@tenant_job("mistake.lost_sleep", queue="bulk")
class LostSleep:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> None:
        if job.how:
            asyncio.sleep(1)  # type: ignore[unused-coroutine]


@tenant_job("mistake.lost_method", queue="bulk")
class LostMethod:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> None:
        self.finish()  # type: ignore[unused-coroutine]

    async def finish(self) -> None:
        await asyncio.sleep(1)


@tenant_job("mistake.lost_in_a_handler", queue="bulk")
class LostInAHandler:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> None:
        await helper()

    @workflow.signal
    async def tell(self) -> None:
        helper()  # type: ignore[unused-coroutine]


async def in_a_helper() -> None:
    helper()  # type: ignore[unused-coroutine]


@tenant_job("mistake.lost_in_a_helper", queue="bulk")
class LostInAHelper:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> None:
        await in_a_helper()


@tenant_activity
async def lost_statement() -> None:
    async with tenant_session() as session:
        session.execute("select 1")  # type: ignore[call-overload]


@tenant_activity
async def sound(text: str) -> None:
    async with tenant_session() as session:
        session.add(text)
        await session.flush()
    sleep = helper
    tasks = [helper(), sleep()]
    await asyncio.gather(*tasks)

    def shadowed(helper: Any) -> None:
        helper()

    shadowed(print)


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (
            LostActivity,
            r"workflow\.execute_activity\(\.\.\.\) \(tests.*/test_mistakes\.py, line \d+, in run\)",
        ),
        (LostSleep, r"asyncio\.sleep\(\.\.\.\) .* is not awaited, so it does nothing"),
        (LostMethod, r"self\.finish\(\.\.\.\) .* Write await in front of it"),
        (LostInAHandler, r"helper\(\.\.\.\) .* is not awaited"),
        (LostInAHelper, r"helper\(\.\.\.\) .* is not awaited"),
    ],
)
async def test_a_missing_await_is_refused_as_the_worker_is_built(
    client: Client, queue: str, cls: type, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Worker(client, task_queue=queue, workflows=[cls], activities=[mistakes.take_text])


async def test_a_missing_await_in_an_activity_is_refused(client: Client, queue: str) -> None:
    with pytest.raises(ConfigurationError, match=r"session\.execute\(\.\.\.\) .* is not awaited"):
        Worker(client, task_queue=queue, activities=[lost_statement])
    Worker(client, task_queue=queue, activities=[sound])


async def test_an_activity_that_the_worker_lacks_is_refused_as_it_is_built(
    client: Client, queue: str
) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"calls the activity take_text \(tests/.*/mistaken_jobs\.py, line \d+, in run\), ",
    ):
        Worker(
            client,
            task_queue=queue,
            workflows=[mistakes.MakeMistake],
            activities=[mistakes.make_text, mistakes.beat_text],
        )


async def test_an_import_that_workflow_code_may_not_use_is_named_as_its_worker_is_built(
    client: Client, queue: str
) -> None:
    # Imported here: the sandbox imports this module for the jobs that it declares.
    from tests.fixtures.jobs.importing_jobs import ImportsTooMuch

    with pytest.raises(
        ConfigurationError,
        match=r"imports httpx \(tests/.*/importing_jobs\.py, line 5\), which uses urllib\.req",
    ):
        Worker(client, task_queue=queue, workflows=[ImportsTooMuch])


@tenant_job("mistake.elsewhere", queue="bulk")
class Elsewhere:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> int:
        return await workflow.execute_activity(
            mistakes.take_text, "", task_queue="other", start_to_close_timeout=mistakes.SECONDS
        )


@tenant_job("mistake.local", queue="bulk")
class Local:
    @workflow.run
    async def run(self, job: mistakes.MistakeInput) -> Any:
        return await workflow.execute_local_activity(
            "take_text", "", start_to_close_timeout=mistakes.SECONDS
        )


async def test_an_activity_of_another_queue_is_another_workers(client: Client, queue: str) -> None:
    Worker(client, task_queue=queue, workflows=[Elsewhere], activities=[mistakes.make_text])
    # A worker that polls for no activities leaves them to others, but not the local ones.
    Worker(
        client,
        task_queue=f"{queue}-local",
        workflows=[mistakes.MakeMistake],
        activities=[mistakes.make_text],
        no_remote_activities=True,
    )
    with pytest.raises(ConfigurationError, match="Local calls the activity take_text"):
        Worker(
            client,
            task_queue=queue,
            workflows=[Local],
            activities=[mistakes.make_text],
            no_remote_activities=True,
        )


def test_the_source_is_read_although_garbage_is_collected() -> None:
    @tenant_activity
    async def work(job: mistakes.MistakeInput) -> list[int]:
        return [len(job.how) + 1, len(job.how) + 2, len(job.how) + 3]

    def collected(phase: str, info: dict[str, int]) -> None:
        ast.parse("1")  # as a traceback does that is formatted then

    thresholds = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        check_activity(work)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collected)
    assert gc.isenabled()


class NoTimeoutInput(mistakes.MistakeInput):
    pass


@tenant_job("mistake.forget_timeout", queue="default")
class ForgetsTimeout:
    @workflow.run
    async def run(self, job: NoTimeoutInput) -> Any:
        return await workflow.execute_activity(mistakes.make_text, 1)


@tenant_job("mistake.forget_local_timeout", queue="default")
class ForgetsLocalTimeout:
    @workflow.run
    async def run(self, job: NoTimeoutInput) -> Any:
        return await workflow.execute_local_activity("make_text", 1, task_queue="x")  # type: ignore[call-overload]


@tenant_job("mistake.pass_timeout", queue="default")
class PassesTimeout:
    @workflow.run
    async def run(self, job: NoTimeoutInput) -> Any:
        options: Any = {"start_to_close_timeout": timedelta(seconds=1)}
        return await workflow.execute_activity(mistakes.make_text, 1, **options)


@pytest.mark.parametrize("cls", [ForgetsTimeout, ForgetsLocalTimeout])
def test_a_call_of_an_activity_without_a_timeout_is_refused_with_its_line(cls: type) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"tests/.*/test_mistakes\.py, line \d+, in run\) has no timeout",
    ):
        check_workflow(cls, [None], is_remote=True)


def test_a_timeout_among_options_counts() -> None:
    check_workflow(PassesTimeout, [None], is_remote=True)
