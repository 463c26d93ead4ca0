"""The start and end of a process that uses the Temporal SDK."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import Final, NoReturn

from temporal_tenancy.core.trace_context import end_tracing

COLLECTED_AFTER: Final = 100_000  # new objects; Python's default is 700


def begin_process() -> None:
    """Prepares the process of a command.

    Output streams that were closed at the start (`>&-`) are replaced by the null device. Garbage is
    collected less often: most objects of a short process are modules, which stay.
    """
    gc.set_threshold(COLLECTED_AFTER)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # stays


def exit_process(code: int) -> NoReturn:
    """Ends the process with `code`, without finalising the interpreter.

    If a thread of the SDK's core returns from a call during finalisation, it aborts the process
    ("PyGILState_Release: thread state must be current when releasing"), and a command that was
    successful would exit with -6. Stop everything else before calling this.
    """
    end_tracing()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader is gone
            stream.flush()
    os._exit(code)
