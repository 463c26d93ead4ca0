"""The jobs there are."""

from __future__ import annotations

from typing import Any

from processes import connect  # noqa: F401  # the jobs are known with it
from processes.cli.answers import Answer, table
from temporal_tenancy.core.jobs import Job, registry
from workflows.schedules import SCHEDULES


async def show() -> Answer:
    """Every job of the application, and of the library."""
    found = sorted(registry.values(), key=lambda job: (job.kind == "platform", job.name))
    crons = {scheduled.job: scheduled.cron for scheduled in SCHEDULES}
    documents = [_document(job, crons.get(job.name)) for job in found]
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
        for job in found
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
