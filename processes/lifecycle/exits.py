"""The error that ends a process: one sentence and an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code says; the same as `starter.py`'s."""

    FAILED = 1  # a check, or a worker that was running
    BAD_USAGE = 2  # an option or a setting
    NOT_REACHABLE = 3  # something needed


class WorkerExit(Exception):
    """The process cannot start, or cannot continue."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        """`sentence` says what is wrong and what to do about it, without credentials."""
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)
