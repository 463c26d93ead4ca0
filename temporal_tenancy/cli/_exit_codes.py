"""The exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Why a command did not succeed."""

    FAILED = 1  # the job, a check or a running worker failed
    REFUSED = 2  # bad usage, input or settings; nothing was started
    NOT_REACHABLE = 3  # a server that the command needs does not answer
    INTERRUPTED = 130  # as in a shell: 128 + SIGINT
