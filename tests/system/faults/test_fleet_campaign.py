"""What the seeds of the campaign over a fleet do; `make fleet` runs them."""

from __future__ import annotations

from tests.system.faults.fleet_campaign import Trouble, steps_of


def test_each_seed_has_every_kind_of_trouble() -> None:
    for seed in range(20):
        assert {step.trouble for step in steps_of(seed)} == set(Trouble)
        assert steps_of(seed) == steps_of(seed)
    assert steps_of(1) != steps_of(2)
