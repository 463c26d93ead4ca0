"""The doctor's checks and their verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"  # as it should be
    WARNING = "warning"  # worth a look; jobs run
    FAILED = "failed"  # jobs do not run, or not safely
    SKIPPED = "skipped"  # cannot be said, or need not be


@dataclass(frozen=True)
class Check:
    """One thing that the doctor looked at."""

    name: str
    verdict: Verdict
    message: str  # one sentence


def ok(name: str, message: str) -> Check:
    """All is well."""
    return Check(name, Verdict.OK, message)


def warning(name: str, message: str) -> Check:
    """Worth a look."""
    return Check(name, Verdict.WARNING, message)


def failed(name: str, message: str) -> Check:
    """Something is not right."""
    return Check(name, Verdict.FAILED, message)


def skipped(names: Iterable[str], message: str) -> list[Check]:
    """Checks that could not be made."""
    return [Check(name, Verdict.SKIPPED, message) for name in names]
