"""The error that ends a process: one sentence and an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes, the same as those of `starter.py`."""

    FAILED = 1  # a check or a running worker failed
    BAD_USAGE = 2  # an option or setting is wrong
    NOT_REACHABLE = 3  # a required service does not answer


class WorkerExit(Exception):
    """The process cannot start, or cannot continue."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        """`sentence` says what is wrong and what to do about it, without credentials."""
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)
