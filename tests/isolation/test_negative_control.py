"""The conformance suite fails where something is set up wrongly, and for that reason."""

from __future__ import annotations

import pytest

from tests.fixtures.pgbouncer import pgbouncer_program
from tests.mutants.mutant import Mutant
from tests.mutants.report import Verdict
from tests.mutants.runs import run
from tests.mutants.set_ups import SET_UPS

# What the failed test says.
REASONS = {
    "tenant-of-the-session": "{'tenant'}",
    "path-of-the-session": "{'search_path'}",
    "pooler-for-statements": "transaction blocks not allowed in statement pooling mode",
}


def test_each_wrong_set_up_has_its_reason() -> None:
    assert {mutant.name for mutant in SET_UPS} == set(REASONS)


@pytest.mark.parametrize("wrong", SET_UPS, ids=[mutant.name for mutant in SET_UPS])
def test_the_conformance_suite_fails_on_a_wrong_set_up(wrong: Mutant) -> None:
    pgbouncer_program()
    found = run(wrong.killers, wrong)
    assert found.verdict is Verdict.KILLED, found.output
    assert found.first is not None
    assert REASONS[wrong.name] in found.first.said
