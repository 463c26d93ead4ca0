"""The log of a process that the command line runs: standard error, unless the application has one.

Lines are JSON for machines, and text on a terminal.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

from temporalio import activity, workflow

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.redaction import redacted
from temporal_tenancy.sdk.log_lines import JsonLines, exception_of, fields_of
from temporal_tenancy.sdk.logs import JobContext

# These name steps of their own at INFO: httpx the URL of each request, which may be a secret.
QUIET: Final = ("alembic", "sqlalchemy", "temporal_tenancy.postgres._shared_pool", "httpx")


class _TextLines(logging.Formatter):
    """Writes a record as text for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, and below it a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%SZ")
        fields = [f"{name}={value}" for name, value in fields_of(record).items()]
        words = (time, record.levelname.lower(), redacted(record.getMessage()), *fields)
        line = printable(" ".join(words))
        if (exception := exception_of(record)) is not None:
            line += "\n" + printable(exception, lines=True)
        return line


def write_logs(identity: str) -> None:
    """Writes the process's log to standard error; does nothing if the application logs already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_TextLines() if sys.stderr.isatty() else JsonLines())
    handler.addFilter(JobContext(identity))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # The fields have this already, and with it in the message no two lines would be alike.
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
