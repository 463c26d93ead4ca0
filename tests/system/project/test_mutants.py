"""The mutants are complete, and the result of a run is classified correctly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from temporal_tenancy.sdk import _commands as commands
from tests.mutants import commands as mutants_of_commands
from tests.mutants.faults import MUTANTS
from tests.mutants.hops import KILLERS, handled
from tests.mutants.report import Failure, Report, Verdict, verdict_of
from tests.mutants.runs import ROOT, run


def test_every_hook_that_is_handled_has_a_mutant_and_a_test_that_is_meant_to_kill_it() -> None:
    assert set(KILLERS) == set(handled())
    assert set(handled()) <= set(MUTANTS)
    assert all(KILLERS.values())


def test_every_command_that_is_looked_at_has_a_test_that_is_meant_to_kill_its_mutant() -> None:
    looked_at = {kind for kind, check in commands.COMMANDS.items() if check is not None}
    assert set(mutants_of_commands.KILLERS) == looked_at
    assert {f"command.{kind}" for kind in looked_at} <= set(MUTANTS)


@pytest.mark.parametrize("killer", sorted({k for m in MUTANTS.values() for k in m.killers}))
def test_what_is_meant_to_kill_a_mutant_is_there(killer: str) -> None:
    path, _, test = killer.partition("::")
    name = test.partition("[")[0]
    assert re.search(rf"def {name}\(" if name else "def test_", (ROOT / path).read_text())


def test_each_fault_can_be_seeded_into_the_code_as_it_is() -> None:
    seeded = subprocess.run(
        [sys.executable, "-m", "tests.mutants.seeds"], cwd=ROOT, capture_output=True, text=True
    )
    assert seeded.returncode == 0, seeded.stdout + seeded.stderr


def failure(error: str = "AssertionError", *, phase: str = "call", said: str = "") -> Report:
    return Report(seeded=True, failures=[Failure(test="t", phase=phase, error=error, said=said)])


@pytest.mark.parametrize(
    ("code", "report", "verdict"),
    [
        (0, Report(seeded=True), Verdict.SURVIVED),
        (0, Report(seeded=False), Verdict.BROKEN),
        (0, None, Verdict.BROKEN),
        (1, failure(), Verdict.KILLED),
        (1, failure("TenantMismatch"), Verdict.KILLED),
        (1, failure("Failed", said="DID NOT RAISE TenancyError"), Verdict.KILLED),
        (1, failure("Failed", said="Timeout (>60.0s) from pytest-timeout."), Verdict.BROKEN),
        (1, failure("AttributeError"), Verdict.BROKEN),
        (1, failure(phase="setup"), Verdict.BROKEN),
        (1, Report(seeded=True), Verdict.BROKEN),
        (2, failure(), Verdict.BROKEN),  # interrupted, as by a collection error
        (4, Report(seeded=True), Verdict.BROKEN),  # no such test
    ],
)
def test_only_a_test_that_fails_by_what_it_expects_kills(
    code: int, report: Report | None, verdict: Verdict
) -> None:
    assert verdict_of(code, report) is verdict


def test_a_mutant_is_killed_by_the_tests_that_look_for_it_and_survives_others() -> None:
    mutant = MUTANTS["context-not-reset"]
    killed = run(mutant.killers, mutant)
    assert killed.verdict is Verdict.KILLED, killed.output
    assert killed.first is not None
    assert killed.first.error == "AssertionError"
    survived = run(["tests/library/core/test_identifiers.py"], mutant)
    assert survived.verdict is Verdict.SURVIVED, survived.output


HANGS = """
import time

def test_that_cannot_be_interrupted():
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def test_a_run_ends_with_a_test_that_hangs_and_says_nothing(tmp_path: Path) -> None:
    test = tmp_path / "test_hanging.py"
    test.write_text(HANGS)
    hung = run([str(test)], None, timeout=1)
    assert hung.verdict is Verdict.BROKEN, hung.output
    assert "Timeout" in hung.output
