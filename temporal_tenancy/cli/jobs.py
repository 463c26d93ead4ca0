"""Lists the jobs."""

from __future__ import annotations

from typing import Any

from temporal_tenancy.cli.answers import Answer, table
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.jobs import Job, registry


async def show() -> Answer:
    """Lists every job of the application and of the library."""
    jobs = sorted(registry.values(), key=lambda job: (job.kind == "platform", job.name))
    crons = {scheduled.job: scheduled.cron for scheduled in current_application().every_schedule}
    documents = [_document(job, crons.get(job.name)) for job in jobs]
    rows = [
        (
            job.name,
            job.kind,
            job.queue,
            job.priority.name.lower(),
            job.feature,
            crons.get(job.name),
            job.summary,
        )
        for job in jobs
    ]
    titles = ("job", "kind", "queue", "priority", "feature", "schedule", "")
    return Answer(documents, table(titles, rows))


def _document(job: Job, cron: str | None) -> dict[str, Any]:
    return {
        "name": job.name,
        "kind": job.kind,
        "queue": job.queue,
        "priority": int(job.priority),
        "feature": job.feature,
        "period": job.period,
        "schedule": cron,
        "summary": job.summary,
        "input": job.input_model.model_json_schema(),
    }
