"""The beginning and the end of a process that uses the Temporal SDK."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn


def open_streams() -> None:
    """Gives the process the streams that it was started without (`>&-`): they go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # stays


def exit_process(code: int) -> NoReturn:
    """Ends the process with `code`, without finalising the interpreter.

    A thread of the SDK's core that comes back from a call while Python is being finalised aborts
    the process ("PyGILState_Release: thread state must be current when releasing"), and a command
    that has done its work would exit with -6. Everything else must be stopped before.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone
            stream.flush()
    os._exit(code)
