"""The doctor's checks and their verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"  # all is well
    WARNING = "warning"  # worth a look; jobs run
    FAILED = "failed"  # jobs do not run, or not safely
    SKIPPED = "skipped"  # could not be checked, or need not be


@dataclass(frozen=True)
class Check:
    """One check with its result."""

    name: str
    verdict: Verdict
    message: str  # one sentence


def ok(name: str, message: str) -> Check:
    """Returns a check that passed."""
    return Check(name, Verdict.OK, message)


def warning(name: str, message: str) -> Check:
    """Returns a check with a warning."""
    return Check(name, Verdict.WARNING, message)


def failed(name: str, message: str) -> Check:
    """Returns a check that failed."""
    return Check(name, Verdict.FAILED, message)


def skipped(names: Iterable[str], message: str) -> list[Check]:
    """Returns checks that were skipped."""
    return [Check(name, Verdict.SKIPPED, message) for name in names]
