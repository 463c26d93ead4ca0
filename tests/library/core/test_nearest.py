"""The name that somebody meant."""

from __future__ import annotations

import pytest

from temporal_tenancy.core.nearest import LONGEST, did_you_mean, nearest

KNOWN = ("billing.cycle", "analytics.aggregate", "retention.enforce", "Acme")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("biling.cycle", "billing.cycle"),
        ("billing.cylce", "billing.cycle"),
        ("BILLING.CYCLE", "billing.cycle"),
        ("acme", "Acme"),
        ("nothing-like-it", None),
        ("", None),
        ("billing.cycle" * LONGEST, None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case(name: str, meant: str | None) -> None:
    assert nearest(name, KNOWN) == meant


def test_the_question_begins_with_a_blank_or_is_empty() -> None:
    assert did_you_mean("biling.cycle", KNOWN) == ' Did you mean "billing.cycle"?'
    assert did_you_mean("nothing-like-it", KNOWN) == ""
