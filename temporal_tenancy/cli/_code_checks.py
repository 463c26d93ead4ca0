"""Compares the code of the workers that answered a probe with this program's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.outbox.probe.workflow import ProbeAnswer, digests
from temporal_tenancy.postgres.revisions import revisions_of
from temporal_tenancy.sdk.code_checks import activities_called

NAMES: Final = ("code of workers", "activities")
SHOWN: Final = 5  # of a list in a sentence
_LIBRARY: Final = "temporal_tenancy."
_AGAIN: Final = "Restart it with the code of this program."
_LISTED: Final = (
    "A job that its code declares is missing from the workflows that it lists: add it there. "
    "Otherwise restart it with the code of this program."
)

Answers = Mapping[str, Sequence[ProbeAnswer]]  # by queue


def code_checks(answers: Answers) -> list[Check]:
    """Checks the workers' jobs and migrations, then the activities that their jobs call.

    `answers` has every queue; one whose workers did not answer has none.
    """
    jobs, activities = NAMES
    if not any(answers.values()):
        return skipped(NAMES, "no worker answered the probe.")
    if not all(answers.values()):
        listed = skipped([activities], "the workers of some queues did not answer the probe.")[0]
    else:
        listed = _activities(activities, answers)
    return [_jobs(jobs, answers), listed]


def _jobs(name: str, answers: Answers) -> Check:
    lacking: list[str] = []
    differing: list[str] = []
    for queue, found in answers.items():
        expected = digests(_own_jobs(queue))
        for answer in _each_worker(found):
            who = printable(answer.identity)
            lacks = expected.keys() - answer.jobs.keys()
            if lacks:
                lacking.append(f"{who} does not know {_listed(lacks)}")
            others = [job for job in expected.keys() - lacks if answer.jobs[job] != expected[job]]
            if others:
                differing.append(f"{who} takes another input for {_listed(others)}")
    if lacking:
        return failed(name, f"{'; '.join(lacking)}. {_LISTED}")
    older = [*differing, *_behind(answers)]
    if older:
        return warning(name, f"{'; '.join(older)}. {_AGAIN}")
    return ok(name, "the workers that answered know the jobs and migrations of this program.")


def _behind(answers: Answers) -> list[str]:
    """Returns which workers' code is older than the library's newest migrations."""
    known = {environment.name: revisions_of(environment) for environment in LIBRARY}
    workers = _each_worker(answer for found in answers.values() for answer in found)
    return [
        f"{printable(answer.identity)} knows the {name} up to {revision}, and this program to "
        f"{known[name][0]}"
        for answer in workers
        for name, revision in answer.revisions.items()
        if revision in known.get(name, [])[1:]
    ]


def _activities(name: str, answers: Answers) -> Check:
    listed = {activity for found in answers.values() for a in found for activity in a.activities}
    calls = [
        f"{activity} (of {job.name})"
        for queue in answers
        for job in _own_jobs(queue)
        for activity in sorted(activities_called(job.workflow) - listed)
    ]
    if calls:
        return failed(
            name,
            f"no worker lists {_listed(calls)}: a job that calls it waits until its timeout. Add "
            "it to the worker's activities.",
        )
    return ok(name, "the workers list every activity that their jobs name.")


def _own_jobs(queue: str) -> list[Job]:
    """Returns the application's jobs of a queue."""
    return [
        job
        for job in registry.values()
        if job.queue == queue and not job.workflow.__module__.startswith(_LIBRARY)
    ]


def _each_worker(answers: Iterable[ProbeAnswer]) -> list[ProbeAnswer]:
    by_identity = {answer.identity: answer for answer in answers}
    return [by_identity[identity] for identity in sorted(by_identity)]


def _listed(names: Iterable[str]) -> str:
    ordered = [printable(name) for name in sorted(names)]
    more = len(ordered) - SHOWN
    return f"{', '.join(ordered[:SHOWN])} and {more} more" if more > 0 else ", ".join(ordered)
