"""The jobs that every SaaS has, started and inspected by a person."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client

from dev.sample_data.load import make_up_tenants
from saas.queues import Queue
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.postgres.database import Database
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import Batch, Command, Said


@pytest.fixture
async def made_up(saas: Client, database: Database) -> AsyncIterator[list[str]]:
    """Tenants on the plans free, standard and enterprise, each with flights of January 2013."""
    names = await make_up_tenants(database, 3, events=40)
    async with saas_worker(saas), saas_worker(saas, task_queue=Queue.DEFAULT):
        yield names


def command(*arguments: str) -> Command:
    return Command([*arguments, "--json"])


async def test_each_runs_for_one_tenant(batch: Batch, made_up: list[str]) -> None:
    free, standard, _ = made_up
    said = await batch(
        [
            command("run", "report.daily", "--tenant", standard, "--key", "2013-01-10", "--wait"),
            command("run", "retention.enforce", "--tenant", free, "--wait"),
            command("run", "cleanup.expired", "--tenant", free, "--wait"),
            command("run", "trial.expiry", "--tenant", free, "--wait"),
            command("run", "audit.aggregate", "--tenant", free, "--key", "2013-01-10", "--wait"),
        ]
    )
    report, retention, cleanup, trial, audit = (answer.document["result"] for answer in said)
    assert (report["events"], report["most_delay"]) == (2, 0)
    assert retention["deleted"] == 40
    assert set(cleanup["deleted"].values()) == {0}
    assert trial == {"ended": None}
    assert audit == {"period": "2013-01-10", "counts": 0, "entries": 0}


async def test_each_runs_for_every_tenant(batch: Batch, made_up: list[str]) -> None:
    jobs = {
        "report.daily": ("--tick", "2013-01-10"),
        "retention.enforce": (),
        "cleanup.expired": (),
        "trial.expiry": ("--where", "status=trial"),
        "audit.aggregate": ("--tick", "2013-01-10"),
    }
    said = await batch([command("fan-out", job, *more, "--wait") for job, more in jobs.items()])
    counts = {
        job: (answer.code, answer.document["succeeded"], answer.document["skipped"])
        for job, answer in zip(jobs, said, strict=True)
    }
    assert counts == {
        "report.daily": (0, 2, 1),  # the free plan has no reports
        "retention.enforce": (0, 3, 0),
        "cleanup.expired": (0, 3, 0),
        "trial.expiry": (0, 0, 0),
        "audit.aggregate": (0, 3, 0),
    }


async def test_a_trial_is_added_with_its_last_day_and_ends_after_it(
    batch: Batch, made_up: list[str]
) -> None:
    trial = ("--status", "trial", "--plan", "free", "--time-zone", "America/New_York")
    added, shown, ended, again, resumed = await batch(
        [
            command("tenants", "add", "newcomer", *trial, "--trial-ends", "2026-03-01"),
            Command(["tenants", "show", "newcomer"]),
            command("run", "trial.expiry", "--tenant", "newcomer", "--wait"),
            command("run", "trial.expiry", "--tenant", "newcomer", "--wait"),
            command("tenants", "resume", "newcomer"),
        ]
    )
    assert added.document["trial_ends_at"] == "2026-03-02T05:00:00Z"
    assert "trial ends  2026-03-02 05:00Z" in shown.out
    assert ended.document["result"]["ended"]["status"] == TenantStatus.SUSPENDED
    assert again.document["result"] == {"ended": None}
    assert resumed.document["status"] == TenantStatus.ACTIVE


async def test_an_end_that_no_trial_can_have_is_refused_with_a_sentence(batch: Batch) -> None:
    given = {
        (
            "--trial-ends",
            "2026-03-01",
        ): "TrialEndRefused: x would be active, and only a trial can have an end",
        ("--status", "trial", "--trial-ends", "soon"): "it is a day, such as 2026-12-01, or a time",
        (
            "--status",
            "trial",
            "--trial-ends",
            "2026-03-01T08:00",
        ): "it is a day, such as 2026-12-01",
    }
    said: list[Said] = await batch([Command(["tenants", "add", "x", *more]) for more in given])
    for answer, sentence in zip(said, given.values(), strict=True):
        assert answer.code == 2
        assert sentence in answer.err
