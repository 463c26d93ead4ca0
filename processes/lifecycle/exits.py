"""The error that ends a process: one sentence and an exit code."""

from __future__ import annotations

from temporal_tenancy.cli import ExitCode


class WorkerExit(Exception):
    """The process cannot start, or cannot continue."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        """`sentence` says what is wrong and what to do about it, without credentials."""
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)
