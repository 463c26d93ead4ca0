"""The arithmetic of the measurements; nothing is timed here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from benchmarks.fairness.fairness_order import unfairness
from benchmarks.fairness.fairness_wait import fairness_of
from benchmarks.shared.asking import print_answers
from benchmarks.shared.bursts import Served
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, jain, quantile, rounds, turns

EPOCH = datetime(2013, 1, 1, tzinfo=UTC)


def compared(*pairs: tuple[float, float]) -> Comparison:
    comparison = Comparison()
    for ours, peer in pairs:
        comparison.add({Arm.OURS: ours, Arm.PEER: peer})
    return comparison


def test_the_ratio_is_the_median_of_the_rounds_and_one_wild_round_does_not_move_it() -> None:
    assert compared((9, 10), (8, 10), (100, 1)).ratio == 0.9


def test_the_arms_take_turns_in_going_first() -> None:
    assert [first for first, _ in turns(4)] == [Arm.OURS, Arm.PEER, Arm.OURS, Arm.PEER]


@pytest.mark.parametrize(
    ("sense", "value", "holds"),
    [(">=", 0.9, True), (">=", 0.89, False), ("<=", 0.9, True), ("<=", 0.91, False)],
)
def test_a_goal_holds_on_its_bound_and_beyond(sense: str, value: float, holds: bool) -> None:
    assert Goal(sense, 0.9).holds(value) is holds  # type: ignore[arg-type]


@pytest.mark.parametrize(("part", "value"), [(0, 1), (0.25, 1.75), (0.5, 2.5), (1, 4)])
def test_a_quantile_lies_between_its_neighbours(part: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], part) == value


def test_an_answer_is_one_line_of_json_with_the_names_of_the_contract() -> None:
    line = Answer("speed", "another", Goal(">=", 0.9), "1/s", compared((9, 10), (8, 10))).line()
    assert "\n" not in line
    answer = json.loads(line)
    assert {name: answer[name] for name in ("name", "value", "unit", "peer", "goal", "holds")} == {
        "name": "speed",
        "value": 0.85,
        "unit": "ratio",
        "peer": "another",
        "goal": ">= 0.9",
        "holds": False,
    }


def test_full_asks_for_more_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FULL", raising=False)
    assert rounds(3, full=10) == 3
    monkeypatch.setenv("FULL", "1")
    assert rounds(3, full=10) == 10


@pytest.mark.parametrize(("shares", "index"), [([3, 3, 3], 1), ([9, 0, 0], 1 / 3), ([1, 3], 0.8)])
def test_jains_index_is_1_for_equal_shares_and_one_nth_for_a_single_winner(
    shares: list[float], index: float
) -> None:
    assert jain(shares) == pytest.approx(index)


def test_what_was_measured_besides_is_in_the_line() -> None:
    answer = Answer("wait", "fifo", Goal("<=", 1), "s", compared((1, 2)), {"jain": 0.98765})
    assert json.loads(answer.line())["jain"] == 0.9877


def test_temporals_unfairness_is_least_where_each_tenant_comes_in_the_first_round() -> None:
    assert unfairness(["a", "b", "a", "a"]) == 1 / 4
    assert unfairness(["a", "a", "a", "b"]) == 3 / 4


def served(tenant: str, scheduled: int, started: int) -> Served:
    second = timedelta(seconds=1)
    return Served(tenant, EPOCH + scheduled * second, EPOCH + started * second)


@pytest.mark.parametrize(
    ("of_flood", "index"),
    [
        ([0, 1], 2 / 3),  # none while the small ones wait
        ([0, 1, 5], 1),  # as many as of each small one
        ([0, 1, 3, 4, 5, 6, 9], 4 / 6),
    ],
)
def test_fairness_is_that_of_what_each_got_while_the_small_ones_waited(
    of_flood: list[int], index: float
) -> None:
    taken = [served("flood", 0, started) for started in of_flood]
    taken += [served("a", 1, 4), served("b", 2, 7)]
    assert fairness_of(taken, ("a", "b")) == pytest.approx(index)


def test_a_question_that_fails_costs_no_other_its_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(question: SimpleNamespace) -> list[Answer]:
        if question.NAME == "first":
            raise ValueError("no such worker")
        return [Answer(question.NAME, "another", Goal("<=", 1), "s", compared((1, 2)))]

    questions = [SimpleNamespace(NAME=name) for name in ("first", "second")]
    assert not print_answers(questions, ask, temporal="dev")
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert (answer["name"], answer["temporal"]) == ("second", "dev")
    assert "ValueError: no such worker" in said.err
    assert "first failed, so it has no answer." in said.err
    assert print_answers(questions[1:], ask)
