"""Missed tenants, and the schedules' next starts: the ledger's commands as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from dev.sample_data.load import make_up_tenants
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.postgres.database import Database
from tests.fixtures.app import states_of
from tests.fixtures.starter import Batch, Command, Starter
from tests.system.cli.test_starter import airlines, mend, worker  # noqa: F401  # fixtures

COUNTS = ("planned", "succeeded", "failed", "skipped", "already")
JOB = "billing.cycle"


async def test_who_was_missed_is_named_caught_up_and_then_nobody_is(
    worker: Worker,  # noqa: F811
    starter: Starter,
    batch: Batch,
    database: Database,
    tenants: Tenants,
) -> None:
    first = await starter("fan-out", JOB, "--tick", "2013-04", "--wait", "--json")
    assert first.code == 1
    missed = (await starter("ticks", "missed", "--json")).document
    [tick] = missed["ticks"]
    assert (missed["missed"], tick["job"], tick["tick"], tick["state"]) == (
        1, JOB, "2013-04", "ended",
    )  # fmt: skip
    [broken] = tick["tenants"]
    assert (broken["tenant_id"], broken["state"]) == ("broken", "failed")
    assert broken["reason"].startswith("UsageNotBillable: usage events of broken")
    still = await starter("ticks", "catch-up", "--wait", "--json")
    assert still.code == 1
    assert [still.document[name] for name in COUNTS] == [3, 0, 1, 1, 1]
    assert still.err.startswith("TenantsFailed: 1 tenant failed again. ")
    await mend(database, tenants)
    await tenants.add("later", "Later", plan="enterprise")  # it did not exist in April
    words = await starter("ticks", "missed", JOB)
    assert "broken  failed   UsageNotBillable: usage" in words.out
    assert "sleepy  skipped  skipped then: TenantSuspended: sleepy is" in words.out
    assert "tenants resume sleepy" not in words.out  # it has been resumed
    assert words.out.rstrip().endswith(
        '2 tenants missed in 1 tick: "starter.py ticks catch-up billing.cycle --wait" runs them.'
    )
    done = await starter("ticks", "catch-up", JOB, "--tick", "2013-04", "--wait", "--json")
    assert done.code == 0, done
    assert [done.document[name] for name in COUNTS] == [3, 2, 0, 0, 1]
    assert done.document["tick"] == "2013-04"
    assert "tick-2013-04" in done.document["url"]
    assert await states_of(database, JOB, "2013-04") == dict.fromkeys(
        ("acme", "broken", "sleepy"), "succeeded"
    )
    nothing, nobody, words_of_nothing = await batch(
        [
            Command(["ticks", "catch-up", "--wait", "--json"]),
            Command(["ticks", "missed", "--json"]),
            Command(["ticks", "missed"]),
        ]
    )
    assert [nothing.document[name] for name in COUNTS] == [0] * 5
    assert (nothing.code, nobody.document) == (0, {"missed": 0, "ticks": []})
    assert words_of_nothing.out == "Nobody was missed.\n"


async def test_a_tick_that_never_began_is_run_for_all_when_it_is_named(
    worker: Worker,  # noqa: F811
    starter: Starter,
) -> None:
    missed = (await starter("ticks", "missed", JOB, "--tick", "2013-02", "--json")).document
    [tick] = missed["ticks"]
    assert (tick["state"], tick["reason"], missed["missed"]) == ("missed", "never began.", 2)
    done = await starter("ticks", "catch-up", JOB, "--tick", "2013-02", "--wait", "--json")
    assert [done.document[name] for name in COUNTS] == [3, 2, 0, 1, 0]


async def test_the_ledger_is_shown_also_while_temporal_is_away(
    worker: Worker,  # noqa: F811
    starter: Starter,
) -> None:
    await starter("fan-out", JOB, "--tick", "2013-02", "--wait", "--json")
    shown = await starter("ticks", "show", JOB, "--json", TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (shown.code, shown.document["succeeded"]) == (0, 2)
    assert shown.err.startswith("NotReachable: the Temporal server 127.0.0.1:1 does not answer")
    assert shown.err.rstrip().endswith("So this is what the ledger says; it may be out of date.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tick", "2013-02"), "a tick belongs to a job: name the job."),
        ((JOB, "--tick", "yesterday"), "billing.cycle works on a month, and yesterday is not one:"),
        ((JOB, "--tick", "2999-01"), "2999-01 is not over yet, so it cannot have missed a tenant."),
        (("trial.expiry", "--tick", "x"), "trial.expiry has no tick x."),
        (
            ("fan_out.tick",),
            "fan_out.tick is a job of the platform and does not run for a single tenant.",
        ),
        (("nope.job",), "'nope.job' is not a job."),
    ],
)
async def test_ticks_there_cannot_be_are_refused(
    saas: Client, batch: Batch, arguments: tuple[str, ...], sentence: str
) -> None:
    for said in await batch(
        [Command(["ticks", command, *arguments]) for command in ("missed", "catch-up")]
    ):
        assert (said.code, said.out) == (2, "")
        assert sentence in said.err


async def test_the_preview_shows_the_load_with_and_without_spread(
    saas: Client, database: Database, tenants: Tenants, batch: Batch, tmp_path: Path
) -> None:
    await make_up_tenants(database, 100)
    await tenants.set_status("t00001", TenantStatus.SUSPENDED)
    picture = tmp_path / "load.png"
    sunday = ["schedules", "preview", "--from", "2026-11-22"]
    document, words, refused = await batch(
        [
            Command([*sunday, "--json", "--png", str(picture)]),
            Command(sunday),
            Command([*sunday, "--png", str(tmp_path / "no" / "load.png")]),
        ]
    )
    jobs = {job["job"]: job for job in document.document["jobs"]}
    retention = jobs["retention.enforce"]
    assert (retention["starts"], retention["peak_without_spread"]) == (99, 99)
    assert retention["peak"] < 20
    assert sum(retention["spread"]) == 99
    # Over two hours from three o'clock, in five-minute buckets.
    assert {n for n, starts in enumerate(retention["spread"]) if starts} <= set(range(36, 60))
    # At eight in New York.
    report = jobs["report.daily"]
    assert {n for n, starts in enumerate(report["spread"]) if starts} == {13 * 12}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "as declared; the peak is" in words.out
    assert "█" in words.out
    assert max(map(len, words.out.splitlines())) <= 88
    assert (refused.code, refused.out) == (2, "")
    assert "cannot be written: No such file or directory" in refused.err
    json.dumps(document.document)
