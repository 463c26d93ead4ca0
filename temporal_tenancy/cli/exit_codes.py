"""How a program ends, for whoever called it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a program came to that did not do what it was asked for."""

    FAILED = 1  # the job or a check failed, or a worker that was running
    REFUSED = 2  # bad usage, input or settings; nothing has been started
    NOT_REACHABLE = 3  # something that is needed does not answer
    INTERRUPTED = 130  # as a shell has it
