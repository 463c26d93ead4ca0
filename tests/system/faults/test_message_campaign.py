"""A seeded campaign of faults: in the end each accepted message has exactly one effect.

`FULL=1` runs ten times as many scenarios, and `FAULT_SEED=7` the one of that seed alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fixtures.warm_programs import WarmPrograms
from tests.system.faults.campaign import BOUNDED, Campaign, seeds, selected_seeds
from tests.system.faults.message_asks import POISON, plan
from tests.system.faults.message_campaign import VARIABLES, run_messages
from tests.system.faults.message_scenarios import LANES, TENANTS, Kind, Scenario

MODULE = "tests.system.faults.message_process"


@pytest.fixture(scope="module")
async def campaign(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    warm_processes: WarmPrograms,
) -> AsyncIterator[Campaign]:
    """Every selected scenario, running from the first one's test on."""
    directory = tmp_path_factory.mktemp("messages")
    campaign = Campaign(
        directory,
        selected_seeds(request),
        run_messages,
        lanes=LANES,
        warm=warm_processes,
        module=MODULE,
        **VARIABLES,
    )
    yield campaign
    await campaign.abandon()


@pytest.mark.parametrize("seed", seeds())
async def test_messages_come_out_right(campaign: Campaign, seed: int) -> None:
    outcome = await campaign.outcome(seed)
    again = f"FAULT_SEED={seed} .venv/bin/pytest tests/system/faults/test_message_campaign.py"
    said = "\n".join([f"{Scenario.of(seed)}; again: {again}", *outcome.problems])
    assert not outcome.problems, said


async def test_what_went_wrong_did_so_while_messages_were_worked_off(campaign: Campaign) -> None:
    hit = [(await campaign.outcome(seed)).at_work for seed in campaign.seeds]
    assert hit.count(True) >= 0.8 * len(hit)


async def test_workers_and_relays_that_lived_through_it_end_in_order(campaign: Campaign) -> None:
    exit_codes = await campaign.exit_codes()
    assert exit_codes
    assert set(exit_codes) == {0}


def test_the_bounded_campaign_has_every_kind_of_fault_and_of_poison() -> None:
    assert {Scenario.of(seed).kind for seed in range(BOUNDED)} == set(Kind)
    tenants = [f"t{number}" for number in range(TENANTS)]
    for seed in range(BOUNDED):
        assert set(plan(seed, tenants).accepted.values()) == {None, *POISON}
