"""A server with fairness off: the doctor fails, workers and commands warn, jobs run."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import Client

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.server_checks import keep_fairness, last_fairness
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.fairness import Fairness
from tests.fixtures.starter import Batch, Command, Said, Starter
from tests.fixtures.worker_process import StartWorker

pytestmark = pytest.mark.schedules

WARNS = "FairnessOff: one tenant's backlog delays all others, according to a check at "
ON = Fairness(share=0.1)
OFF = Fairness(share=0.9)


@pytest.fixture
def unfair(unfair_temporal: TemporalDevServer) -> dict[str, str | None]:
    """Returns the environment of a process there."""
    return {"TEMPORAL_ADDRESS": unfair_temporal.address, "TEMPORAL_NAMESPACE": "default"}


def check_of(said: Said) -> Any:
    return next(one for one in said.document["checks"] if one["name"] == "fairness")


async def test_the_doctor_fails_and_from_then_on_commands_warn(
    unfair: dict[str, str | None], batch: Batch, tenants: Tenants, database: Database
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    doctor, run, fan_out, applied = await batch(
        [
            Command(["doctor", "--json"], unfair),
            Command(["run", "billing.cycle", "--tenant", "acme", "--key", "2013-04"], unfair),
            Command(["fan-out", "billing.cycle", "--tick", "2013-04"], unfair),
            Command(["schedules", "apply"], unfair),
        ]
    )
    assert (doctor.code, check_of(doctor)["verdict"]) == (1, "failed")
    assert "matching.enableFairness=true" in check_of(doctor)["message"]
    for said in (run, fan_out, applied):
        assert (said.code, said.err.startswith(WARNS)) == (0, True)

    # It has been turned on since: the next check finds it.
    await keep_fairness(database, "default", ON)
    [again] = await batch([Command(["fan-out", "billing.cycle", "--tick", "2013-05"], unfair)])
    assert again.err == ""


async def test_the_doctor_renews_what_no_longer_holds(
    starter: Starter, database: Database, namespace: str
) -> None:
    await keep_fairness(database, namespace, OFF)
    assert check_of(await starter("doctor", "--json"))["verdict"] == "ok"
    found = await last_fairness(database, namespace)
    assert found is not None
    assert found.holds


async def test_schedules_are_applied_without_a_database(starter: Starter) -> None:
    applied = await starter("schedules", "apply", PLATFORM_DATABASE_URL="")
    assert (applied.code, applied.err) == (0, "")


async def test_a_worker_warns_of_the_last_check_and_makes_none(
    temporal: TemporalDevServer,
    start_worker: StartWorker,
    database: Database,
    namespace: str,
    raw: Client,
) -> None:
    await keep_fairness(database, namespace, OFF)
    worker = await start_worker("--queue", "critical").until_ready()
    warned = await worker.until_line("fairness.off")
    assert (warned["level"], warned["message"].startswith(WARNS)) == ("warning", True)
    assert (await raw.count_workflows()).count == 0  # a probe would have left a closed run
