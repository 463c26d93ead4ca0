"""starter.py plans: what it prints and exits with."""

from __future__ import annotations

import pytest

from tests.fixtures.starter import Starter


async def test_a_plan_is_changed_and_listed(starter: Starter) -> None:
    limits = ("--statement-timeout", "0.25", "--idle-timeout", "90", "--lock-timeout", "none")
    changed = await starter("plans", "set", "free", "--share", "20%", "--cap", "3", *limits)
    assert changed.code == 0, changed.err
    assert "free is changed" in changed.out
    assert "20 %" in changed.out
    assert "250 ms" in changed.out
    assert "1 min 30 s" in changed.out
    await starter("plans", "set", "free", "--cap", "none")
    listed = await starter("plans", "list", "--json")
    [free] = [plan for plan in listed.document if plan["id"] == "free"]
    assert (free["pool_share"], free["statement_timeout"], free["lock_timeout"]) == (
        0.2,
        0.25,
        None,
    )
    assert free["concurrency_cap"] is None


async def test_a_plans_rates_are_changed_one_by_one(starter: Starter) -> None:
    changed = await starter("plans", "set", "free", "--rate", "http=20", "--rate", "crm=0.5")
    assert changed.code == 0, changed.err
    assert "Its rates: crm 0.5/s, http 20/s." in changed.out
    changed = await starter("plans", "set", "free", "--rate", "crm=none", "--json")
    assert changed.document["rate_limits"] == {"http": 20.0}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gold", "--share", "5%"), 'PlanUnknown: there is no plan "gold". Use one of: '),
        (("free",), "say what to change"),
        (("free", "--share", "much"), 'it is a percentage, such as "1%".'),
        (("free", "--share", "101%"), "it is above 0 % and at most 100 %"),
        (("free", "--cap", "0"), "it is a number of jobs, or none."),
        (("free", "--idle-timeout", "soon"), "it is a number of seconds, or none."),
        (("free", "--idle-timeout", "inf"), "it is a number of seconds, or none."),
        (("free", "--idle-timeout", "0"), "it is 0.001 to 2,073,600 seconds, or none."),
        (("free", "--idle-timeout", "2073601"), "it is 0.001 to 2,073,600 seconds, or none."),
        (("free", "--rate", "http"), 'such as "http=20".'),
        (("free", "--rate", "=5"), 'such as "http=20".'),
        (("free", "--rate", "a b=5"), 'such as "http=20".'),
        (("free", "--rate", "http=0"), "it is 0.001 to 1,000,000 calls in a second, or none."),
        (("free", "--rate", "http=nan"), "it is 0.001 to 1,000,000 calls in a second, or none."),
        (("free", "--weight", "0"), "PlanRefused: the plan free stays as it is."),
        (("free", "--weight", "nan"), "PlanRefused: the plan free stays as it is."),
    ],
)
async def test_bad_input_is_one_sentence(
    starter: Starter, arguments: tuple[str, ...], sentence: str
) -> None:
    said = await starter("plans", "set", *arguments)
    assert said.code == 2, said.err
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1
