"""The end of a process that has used the Temporal SDK."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def exit_process(code: int) -> NoReturn:
    """Ends the process with `code`, without finalising the interpreter.

    A thread of the SDK's core that comes back from a call while Python is being finalised aborts
    the process ("PyGILState_Release: thread state must be current when releasing"), and a command
    that has done its work would exit with -6. Everything else must be stopped before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
