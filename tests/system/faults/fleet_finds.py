"""The campaign over a fleet finds what it is for: each fault, in the workers and relays of a seed.

It is no part of the suite: `.venv/bin/pytest tests/system/faults/fleet_finds.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.fleet_campaign import Campaign, Step, Trouble, running_fleet
from tests.system.faults.fleet_faults import FAULT, FAULTS
from tests.system.faults.fleet_jobs import Fleet
from tests.system.faults.message_asks import plan
from tests.system.faults.servers import Servers

PATIENCE = 30.0  # seconds: what is lost never ends

Place = tuple[Servers, Fleet, Path]


@pytest.fixture(scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory, warm_processes: WarmPrograms
) -> AsyncIterator[Place]:
    """Servers with a fleet, and the folder for migrations."""
    directory = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        async with running_fleet(directory, warm_processes) as (servers, fleet):
            yield servers, fleet, directory


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("seed", "fault"), [*enumerate(FAULTS)])
async def test_a_fault_is_found(place: Place, seed: int, fault: str) -> None:
    servers, fleet, folder = place
    await servers.kill_workers(len(servers.workers))
    await servers.kill_relays(len(servers.relays))
    servers.environ[FAULT] = fault
    # No other trouble is needed to find them.
    steps = [Step(Trouble.SUSPEND, tenant=0, pause=0.1, seconds=15.0)]
    campaign = Campaign(servers, fleet, folder, seed, steps, plan(seed, fleet.tenants))
    problems = await campaign.run(PATIENCE)
    print(fault, *problems, sep="\n")
    assert any(FAULTS[fault].said in problem for problem in problems), problems
