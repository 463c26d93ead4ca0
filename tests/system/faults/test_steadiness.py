"""How the soak judges whether a figure stays the same."""

from __future__ import annotations

import os

import pytest

from tests.system.faults.steadiness import Samples, Series, slope


def series(unit: str, *values: float) -> Series:
    return Series(unit, [5.0 * number for number in range(len(values))], list(values))


def test_the_slope_is_the_lines_and_one_wild_sample_does_not_move_it() -> None:
    assert slope([0, 1, 2, 3, 4], [10, 12, 14, 16, 18]) == 2
    assert slope([0, 1, 2, 3, 4], [10, 10, 900, 10, 10]) == 0
    assert slope([7], [1]) == 0


@pytest.mark.parametrize(
    ("unit", "values", "flat"),
    [
        ("memory MB", [300 + number for number in range(29)], True),  # 28 of a median of 314
        ("memory MB", [300 + 2 * number for number in range(29)], False),
        ("memory MB", [400 - 5 * number for number in range(29)], True),  # it falls
        ("memory MB", [300, 380] * 20, True),  # it goes up and down
        ("threads", [20, 20, 20, 21, 21], True),
        ("threads", [20, 21, 22, 23, 24], False),
        ("handles", [10, 12, 14, 16, 18], False),
        ("connections", [30, 30, 31, 31, 32], True),
    ],
)
def test_a_figure_is_flat_unless_it_rises_by_a_tenth(
    unit: str, values: list[float], flat: bool
) -> None:
    assert series(unit, *values).is_flat is flat


def test_what_comes_before_the_warm_up_is_left_out() -> None:
    samples = Samples({("worker", "threads"): series("threads", 1, 5, 9, 30, 30, 30)})
    assert samples.rising(0)
    assert samples.rising(15) == []


def test_a_process_is_sampled_with_what_it_holds() -> None:
    samples = Samples()
    samples.look_at("this", os.getpid())
    assert {unit for _, unit in samples.series} == {"memory MB", "threads", "handles"}
    assert all(found.values[0] > 0 for found in samples.series.values())
