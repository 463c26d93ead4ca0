"""How a worker ends that cannot go on: one sentence, and the exit code for its kind."""

from __future__ import annotations

from temporal_tenancy.cli import ExitCode


class WorkerExit(Exception):
    """The worker cannot start, or cannot go on."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        """`sentence` says what is wrong and what to do about it, without credentials."""
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)
