"""Runs of pytest, each with one fault or with none."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant
from tests.mutants.report import Failure, Report, Verdict, verdict_of

ROOT: Final = Path(__file__).parents[2]
TEST_TIMEOUT: Final = 300  # seconds for one test, on a busy machine too


@dataclass(frozen=True)
class Run:
    """A run of tests with one fault, or with none."""

    verdict: Verdict
    first: Failure | None
    seconds: float
    output: str


def run(tests: Sequence[str], mutant: Mutant | None, *, timeout: int = TEST_TIMEOUT) -> Run:
    """Runs tests in a separate process; with a fault, up to the first test that finds it.

    A test that takes longer than `timeout` seconds hangs, and says nothing about the fault. The run
    ends with it: a worker that is left in the middle of a test may never end by itself.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        fault = ["-x", f"--mutant={mutant.name}"] if mutant else []
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "tests.mutants.plugin", f"--report={path}"),
            *(f"--timeout={timeout}", "--timeout-method=thread"),
            *fault,
            *tests,
        ]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        report = Report.model_validate_json(path.read_text()) if path.exists() else None
    first = report.failures[0] if report and report.failures else None
    return Run(verdict_of(done.returncode, report), first, seconds, done.stdout + done.stderr)
