"""Exit codes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Why a program did not do what it was asked to."""

    FAILED = 1  # the job or a check failed, or a worker that was running
    REFUSED = 2  # bad usage, input or settings; nothing has been started
    NOT_REACHABLE = 3  # something that is needed does not answer
    INTERRUPTED = 130  # as a shell has it
