"""The probe's workflow and activity, which every worker of a queue serves."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError

from temporal_tenancy.core.activities import platform_activity
from temporal_tenancy.core.inputs import PlatformInput
from temporal_tenancy.core.jobs import Job, JobPriority, platform_job, registry
from temporal_tenancy.postgres.revisions import newest_revisions
from temporal_tenancy.sdk.features import Served

NAME: Final = "doctor.probe"
ACTIVITY: Final = "answer_probe"
REASON: Final = "a probe of relay and workers, which is no tenant's"
LIFETIME: Final = timedelta(minutes=1)  # then the server ends what a killed doctor has left
ANSWERS_AT_MOST: Final = 50


class ProbeInput(PlatformInput):
    """What a probe asks of one queue."""

    queue: str = Field(min_length=1, max_length=200)
    answers: Annotated[int, Field(ge=1, le=ANSWERS_AT_MOST)] = 1  # of its workers, in parallel
    patience: Annotated[float, Field(gt=0, le=60)] = 5.0  # seconds for each answer


class ProbeAnswer(BaseModel):
    """What a worker says of itself. Later releases may add fields."""

    model_config = ConfigDict(frozen=True)

    identity: str  # of the worker, in Temporal
    jobs: dict[str, str]  # a digest of each job's input, by name
    activities: list[str]  # names, sorted
    revisions: dict[str, str]  # the newest migration that its code knows, by environment


class ProbeReport(BaseModel):
    """The answers of one queue's workers."""

    answers: list[ProbeAnswer]
    lost: int  # answers that did not come in time
    refused: int  # answers that failed, such as from a worker that does not know the activity


@platform_job(
    NAME, reason=REASON, queue="default", priority=JobPriority.URGENT, execution_timeout=LIFETIME
)
class Probe:
    """Asks the workers of its queue what they serve."""

    @workflow.run
    async def run(self, probe: ProbeInput) -> ProbeReport:
        """Asks as often as the probe says; returns what came back in time."""
        patience = timedelta(seconds=probe.patience)

        async def ask() -> ProbeAnswer:
            answer: ProbeAnswer = await workflow.execute_activity(
                ACTIVITY,
                result_type=ProbeAnswer,
                start_to_close_timeout=patience,
                schedule_to_close_timeout=patience,
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
            return answer

        asked = [ask() for _ in range(probe.answers)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        failures = [result for result in results if isinstance(result, ActivityError)]
        lost = [failure for failure in failures if isinstance(failure.cause, TimeoutError)]
        return ProbeReport(
            answers=[result for result in results if isinstance(result, ProbeAnswer)],
            lost=len(lost),
            refused=len(failures) - len(lost),
        )


def answering(served: Served) -> tuple[Callable[..., Any], ...]:
    """Returns the activity that answers for one worker."""

    @platform_activity(REASON)
    async def answer_probe() -> ProbeAnswer:
        revisions = await asyncio.to_thread(newest_revisions)
        return ProbeAnswer(
            identity=served.identity,
            jobs=digests(job for name in served.workflows if (job := registry.get(name))),
            activities=sorted(served.activities),
            revisions=revisions,
        )

    return (answer_probe,)


def digests(jobs: Iterable[Job]) -> dict[str, str]:
    """Returns a digest of the input of each of `jobs`, by name; words about fields do not count."""
    return {job.name: _digest(job) for job in jobs}


def _digest(job: Job) -> str:
    try:
        schema = _without_words(job.input_model.model_json_schema())
    except Exception:  # a model of the application's that has no schema
        return ""
    text = json.dumps(schema, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_words(schema: Any) -> Any:  # JSON
    if isinstance(schema, dict):
        return {
            name: _without_words(value)
            for name, value in schema.items()
            if name not in ("title", "description", "examples") or not isinstance(value, str | list)
        }
    return [_without_words(item) for item in schema] if isinstance(schema, list) else schema
