"""The logs of this process: JSON for machines, text on a terminal, always on standard error."""

from __future__ import annotations

import sys

from temporal_tenancy.sdk import logs
from temporal_tenancy.sdk.logs import Format


def configure(
    level: str = "info", format: Format | None = None, *, worker: str | None = None
) -> None:
    """Sends all log lines to standard error.

    Args:
        level: the least that is written: debug, info, warning or error.
        format: "json" or "console"; by default for people on a terminal, JSON elsewhere.
        worker: the identity of this process's workers.
    """
    chosen = format or ("console" if sys.stderr.isatty() else "json")
    logs.configure(level=level, format=chosen, worker=worker)
