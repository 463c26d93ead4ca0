"""Whatever happens to a fleet of all isolations: nothing is lost, doubled or another tenant's.

`FLEET_SEEDS=20` runs more seeds, and `FAULT_SEED=7` the one of that number.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.faults.fleet_campaign import Trouble, run_fleet, steps_of


def seeds() -> list[int]:
    """Returns the seeds that the environment selects."""
    if one := os.environ.get("FAULT_SEED"):
        return [int(one)]
    return list(range(int(os.environ.get("FLEET_SEEDS", "1"))))


@pytest.mark.parametrize("seed", seeds())
async def test_a_fleet_comes_out_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # where its migrations are
    problems = await run_fleet(tmp_path, seed)
    again = f"FAULT_SEED={seed} .venv/bin/pytest tests/system/faults/test_fleet_campaign.py"
    steps = ", ".join(map(str, steps_of(seed)))
    assert not problems, "\n".join([f"{steps}; again: {again}", *problems])


def test_each_seed_has_every_kind_of_trouble() -> None:
    for seed in range(20):
        assert {step.trouble for step in steps_of(seed)} == set(Trouble)
        assert steps_of(seed) == steps_of(seed)
    assert steps_of(1) != steps_of(2)
