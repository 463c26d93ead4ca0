"""Whatever happens to a fleet of all isolations: nothing is lost, doubled or another tenant's.

It is no part of the suite: `make fleet` runs it, with three seeds. `FLEET_SEEDS=20` runs more, and
`FAULT_SEED=7` the one of that number. `fleet_finds.py` seeds faults that it has to find.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.fleet_campaign import Fleets, steps_of


@pytest.fixture(scope="module")
async def fleets(
    tmp_path_factory: pytest.TempPathFactory, warm_processes: WarmPrograms
) -> AsyncIterator[Fleets]:
    """What the seeds run on."""
    directory = tmp_path_factory.mktemp("fleets")
    fleets = Fleets(directory, warm_processes)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)  # where its migrations are
        yield fleets
        await fleets.close()


def seeds() -> list[int]:
    """Returns the seeds that the environment selects."""
    if one := os.environ.get("FAULT_SEED"):
        return [int(one)]
    return list(range(int(os.environ.get("FLEET_SEEDS", "3"))))


@pytest.mark.timeout(0)  # the campaign has an end of its own
@pytest.mark.parametrize("seed", seeds())
async def test_a_fleet_comes_out_right(fleets: Fleets, seed: int) -> None:
    problems = await fleets.run(seed)
    again = f"FAULT_SEED={seed} .venv/bin/pytest tests/system/faults/fleet_seeds.py"
    steps = ", ".join(map(str, steps_of(seed)))
    assert not problems, "\n".join([f"{steps}; again: {again}", *problems])


async def test_its_processes_end_when_they_are_asked_to(fleets: Fleets) -> None:
    assert set(await fleets.stopped()) <= {0}
