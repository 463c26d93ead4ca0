"""What a run says about its mutant, and what that is worth."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel


class Failure(BaseModel):
    """A test that failed."""

    test: str  # its id
    phase: str  # setup, call or teardown
    error: str  # the type of what it raised
    said: str


class Report(BaseModel):
    """What became of one run."""

    seeded: bool  # False: the schema was never made, so the fault was never there
    failures: list[Failure] = []


class Verdict(StrEnum):
    """What a run came to."""

    KILLED = "killed"  # a test failed because of the fault
    SURVIVED = "survived"  # every test passed
    BROKEN = "broken"  # nothing can be said: the run itself went wrong


# A fault shows in what a test expects. Code that falls over by itself shows that the fault is
# badly made, and a test that hangs shows nothing.
_CRASHES: Final = {"AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "TypeError"}


def verdict_of(code: int, report: Report | None) -> Verdict:
    """What a run with pytest's exit code and this report came to."""
    if report is None or not report.seeded:
        return Verdict.BROKEN
    if code == 0:
        return Verdict.SURVIVED
    if code != 1 or not report.failures:
        return Verdict.BROKEN
    first = report.failures[0]
    fell_over = first.error in _CRASHES or first.said.startswith("Timeout (>")
    return Verdict.BROKEN if fell_over or first.phase != "call" else Verdict.KILLED
