"""Explains what a running workflow waits for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    TimeoutType,
    VersioningBehavior,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.cli._workers import has_worker, no_worker, pollers
from temporal_tenancy.cli.answers import when
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.core.failures import root_cause, sentence_of
from temporal_tenancy.core.words import number
from temporal_tenancy.deployments.polling import KINDS, Polled, words
from temporal_tenancy.deployments.polling import unserved as of_version
from temporal_tenancy.sdk.suspension import is_waiting

CHILDREN_SHOWN: Final = 3
TAKEN_WITHIN: Final = timedelta(seconds=3)  # a workflow task, where workers are free
CODE_FAILS: Final = "Its workflow code fails and is retried"


async def waits_for(client: Client, run: WorkflowExecutionDescription) -> Sequence[str]:
    """Returns one sentence per reason; queues that no worker serves come first."""
    raw = run.raw_description
    queues = {run.task_queue, *(a.activity_options.task_queue.name for a in raw.pending_activities)}
    sentences = [
        no_worker(queue) for queue in sorted(queues - {""}) if not await has_worker(client, queue)
    ]
    sentences += await _version_gone(client, run)
    if run.execution_time and run.execution_time > datetime.now(UTC):
        sentences.append(f"It starts at {when(run.execution_time)}.")
    sentences += await _task_retries(client, run) or _waiting_task(run)
    sentences += [await _activity(run, activity) for activity in raw.pending_activities]
    children = [child.workflow_id for child in raw.pending_children]
    if children:
        more = ", …" if len(children) > CHILDREN_SHOWN else ""
        sentences.append(
            f"{number(len(children), 'child', 'children')} running: "
            f"{', '.join(children[:CHILDREN_SHOWN])}{more}."
        )
    return sentences


async def _version_gone(client: Client, run: WorkflowExecutionDescription) -> Sequence[str]:
    """Returns a sentence if a pinned run's version has no worker, though its queue has some."""
    version = run.raw_info.versioning_info.deployment_version
    pinned = run.raw_info.versioning_info.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED
    if not (pinned and version.build_id and run.task_queue):
        return []
    own = WorkerDeploymentVersion(version.deployment_name, version.build_id)
    polled = [Polled(run.task_queue, kind) for kind in KINDS]
    missing = await of_version(client, own, polled)
    if not missing:
        return []
    return [
        f"no worker of its version {version.build_id} polls {words(missing)}. Start the workers of "
        "that version."
    ]


def _waiting_task(run: WorkflowExecutionDescription) -> Sequence[str]:
    """Returns a sentence if no worker has taken the run's workflow task for a moment.

    A worker that was killed still counts as one that polls for more than a minute.
    """
    task = run.raw_description.pending_workflow_task
    if task.state != PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
        return []
    since = _time(task.scheduled_time)
    if since is None or datetime.now(UTC) - since < TAKEN_WITHIN:
        return []
    return [
        f'Its workflow task waits for a worker of the queue "{run.task_queue}" since '
        f"{when(since)}: none polls it, or all are busy."
    ]


async def unserved(client: Client, run: WorkflowExecutionDescription) -> Sequence[str]:
    """Returns one sentence for each queue that has an activity of a run and no worker."""
    waiting = {
        activity.activity_options.task_queue.name: activity.activity_type.name
        for activity in run.raw_description.pending_activities
        if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        and not is_waiting(activity)
    }
    return [
        f"{name} cannot start: {no_worker(queue)}"
        for queue, name in sorted(waiting.items())
        if queue and not await pollers(client, queue, "activity")
    ]


async def retries(client: Client, run: WorkflowExecutionDescription) -> Sequence[str]:
    """Returns one sentence for each part of a run that has failed and is tried again."""
    failing = [
        activity
        for activity in run.raw_description.pending_activities
        if activity.HasField("last_failure") and not is_waiting(activity)
    ]
    return [
        *await _task_retries(client, run),
        *[
            f"{activity.activity_type.name}: {_attempt(activity)}, last failed with "
            f"{await _sentence(run, activity.last_failure)}"
            for activity in failing
        ],
    ]


async def _task_retries(client: Client, run: WorkflowExecutionDescription) -> Sequence[str]:
    attempt = run.raw_description.pending_workflow_task.attempt
    if attempt <= 1:
        return []
    failure = await _task_failure(client, run)
    if failure is None:
        return [
            f"A worker took its workflow task and did not answer in time (attempt {attempt}): the "
            "worker hangs, was stopped, or has lost its connection. Look at the worker."
        ]
    return [f"{CODE_FAILS} (attempt {attempt}): {failure}"]


def _attempt(activity: PendingActivityInfo) -> str:
    limit = f" of {activity.maximum_attempts}" if activity.maximum_attempts else ""
    return f"attempt {activity.attempt}{limit}"


async def _activity(run: WorkflowExecutionDescription, activity: PendingActivityInfo) -> str:
    name = activity.activity_type.name
    if is_waiting(activity):
        return (
            f"{name} is paused while {activity.pause_info.manual.reason}, and continues after that."
        )
    failure = ""
    if activity.HasField("last_failure"):
        failure = f" It failed before: {await _sentence(run, activity.last_failure)}"
    if activity.paused:
        reason = activity.pause_info.manual.reason
        return f"{name} is paused{f' ({reason})' if reason else ''}.{failure}"
    attempt = _attempt(activity)
    if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
        since = when(_time(activity.last_started_time))
        return f"{name} is running since {since}, {attempt}.{failure}"
    if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
        return f"{name} is asked to cancel, {attempt}.{failure}"
    next_attempt = _time(activity.next_attempt_schedule_time)
    if activity.attempt > 1 and next_attempt is not None and next_attempt > datetime.now(UTC):
        return f"{name} runs again at {when(next_attempt)}, {attempt}.{failure}"
    return f"{name} waits for a free worker, {attempt}.{failure}"


async def _task_failure(client: Client, run: WorkflowExecutionDescription) -> str | None:
    """Returns why the last workflow task failed; None if no worker answered it in time."""
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    failure: Failure | None = None
    was_lost = False
    async for event in handle.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failure = event.workflow_task_failed_event_attributes.failure
            was_lost = False
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            was_lost = False
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            timeout = event.workflow_task_timed_out_event_attributes.timeout_type
            was_lost = timeout == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    if was_lost:
        return None
    return "no reason is recorded." if failure is None else await _sentence(run, failure)


async def _sentence(run: WorkflowExecutionDescription, failure: Failure) -> str:
    return with_hint(sentence_of(root_cause(await run.data_converter.decode_failure(failure))))


def _time(stamp: Timestamp) -> datetime | None:
    return stamp.ToDatetime(UTC) if stamp.seconds else None
