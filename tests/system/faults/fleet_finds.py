"""The campaign over a fleet finds what it is for: each fault, in the workers and relays of a seed.

It is no part of the suite: `.venv/bin/pytest tests/system/faults/fleet_finds.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.fleet_campaign import Fleets
from tests.system.faults.fleet_faults import FAULTS

PATIENCE = 30.0  # seconds: what is lost never ends


@pytest.mark.timeout(0)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_processes: WarmPrograms, fault: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # where its migrations are
    fleets = Fleets(tmp_path, warm_processes, fault)
    try:
        problems = await fleets.run(0, patience=PATIENCE)
    finally:
        await fleets.close()
    print(fault, *problems, sep="\n")
    assert any(FAULTS[fault].said in problem for problem in problems), problems
