"""A seeded campaign of faults: whatever goes wrong, a tick ends correctly.

`FULL=1` runs ten times as many scenarios, and `FAULT_SEED=7` the one of that seed alone.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from dev.devstack.postgres import PLATFORM, TENANT
from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.campaign import BOUNDED, Campaign, run_tick, seeds, selected_seeds
from tests.system.faults.scenarios import JOBS, LANES, Kind, Scenario


@pytest.fixture(scope="module")
async def campaign(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    warm_processes: WarmPrograms,
) -> AsyncIterator[Campaign]:
    """Every selected scenario, running from the first one's test on."""
    directory = tmp_path_factory.mktemp("campaign")
    campaign = Campaign(
        directory, selected_seeds(request), run_tick, lanes=LANES, warm=warm_processes
    )
    yield campaign
    await campaign.abandon()


@pytest.mark.parametrize("seed", seeds())
async def test_a_tick_comes_out_right(campaign: Campaign, seed: int) -> None:
    outcome = await campaign.outcome(seed)
    again = f"FAULT_SEED={seed} .venv/bin/pytest tests/system/faults/test_campaign.py"
    said = "\n".join([f"{Scenario.of(seed)}; again: {again}", *outcome.problems])
    assert not outcome.problems, said


async def test_what_went_wrong_did_so_while_the_tick_was_at_work(campaign: Campaign) -> None:
    hit = [(await campaign.outcome(seed)).at_work for seed in campaign.seeds]
    assert hit.count(True) >= 0.8 * len(hit)


async def test_workers_that_lived_through_it_end_in_order(campaign: Campaign) -> None:
    exit_codes = await campaign.exit_codes()
    assert exit_codes
    assert set(exit_codes) == {0}


def test_the_bounded_campaign_has_every_kind_of_fault_for_every_job() -> None:
    scenarios = [Scenario.of(seed) for seed in range(BOUNDED)]
    faults = [(scenario, fault) for scenario in scenarios for fault in scenario.faults]
    kinds = Counter((scenario.job, fault.kind) for scenario, fault in faults)
    assert kinds == dict.fromkeys(itertools.product(JOBS, Kind), 2)
    killed = {
        (scenario.workers, fault.workers)
        for scenario, fault in faults
        if fault.kind is Kind.KILL_WORKERS
    }
    assert killed == {(1, 1), (2, 1), (2, 2)}
    cut = {
        (scenario.job, fault.role) for scenario, fault in faults if fault.kind is Kind.CUT_COMMIT
    }
    assert cut == set(itertools.product(JOBS, [TENANT, PLATFORM]))
