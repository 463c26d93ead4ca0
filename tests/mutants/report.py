"""The report of a run, and the verdict on its mutant."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel


class Failure(BaseModel):
    """A failed test."""

    test: str  # its id
    phase: str  # setup, call or teardown
    error: str  # the type of the exception
    said: str


class Report(BaseModel):
    """The outcome of one run."""

    seeded: bool  # False: the schema was never made, so the fault was never there
    failures: list[Failure] = []


class Verdict(StrEnum):
    """The verdict on one mutant."""

    KILLED = "killed"  # a test failed because of the fault
    SURVIVED = "survived"  # every test passed
    BROKEN = "broken"  # unknown: the run itself went wrong


# A fault should break what a test expects. Code that crashes shows only that the fault is badly
# made, and a test that hangs shows nothing.
_CRASHES: Final = {"AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "TypeError"}


def verdict_of(code: int, report: Report | None) -> Verdict:
    """Returns the verdict on a run with this exit code of pytest and this report."""
    if report is None or not report.seeded:
        return Verdict.BROKEN
    if code == 0:
        return Verdict.SURVIVED
    if code != 1 or not report.failures:
        return Verdict.BROKEN
    first = report.failures[0]
    crashed = first.error in _CRASHES or first.said.startswith("Timeout (>")
    return Verdict.BROKEN if crashed or first.phase != "call" else Verdict.KILLED
