"""Lists the jobs."""

from __future__ import annotations

from typing import Any, Final

from temporal_tenancy.cli.answers import Answer, table
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.ticks.schedules import ScheduledJob

# Jobs of the library that run on the queues of other jobs: whose they are, for people.
_QUEUES: Final = {
    "doctor.probe": "each",
    "fan_out.shard": "its job's",
    "fan_out.tick": "its job's",
    "messages.work_off": "its job's",
}


async def show() -> Answer:
    """Lists every job of the application and of the library."""
    jobs = sorted(registry.values(), key=lambda job: (job.kind == "platform", job.name))
    declared = {scheduled.job: scheduled for scheduled in current_application().every_schedule}
    documents = [_document(job, declared.get(job.name)) for job in jobs]
    rows = [
        (
            job.name,
            job.kind,
            document["queue"] or _QUEUES[job.name],
            job.priority.name.lower(),
            job.feature,
            document["schedule"],
            job.summary,
        )
        for job, document in zip(jobs, documents, strict=True)
    ]
    titles = ("job", "kind", "queue", "priority", "feature", "schedule", "")
    return Answer(documents, table(titles, rows, empty="There are no jobs."))


def _document(job: Job, scheduled: ScheduledJob | None) -> dict[str, Any]:
    return {
        "name": job.name,
        "kind": job.kind,
        "queue": (scheduled and scheduled.queue) or (None if job.name in _QUEUES else job.queue),
        "priority": int(job.priority),
        "feature": job.feature,
        "period": job.period,
        "schedule": scheduled and scheduled.cron,
        "summary": job.summary,
        "input": job.input_model.model_json_schema(),
    }
