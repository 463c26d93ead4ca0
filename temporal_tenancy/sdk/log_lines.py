"""A format for the log lines of a process: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from temporal_tenancy.core.display import printable_json
from temporal_tenancy.sdk.logs import SDK_EXTRAS

# What every record has, beside the fields of its own.
_OF_RECORDS: Final = frozenset(
    {*vars(logging.makeLogRecord({})), *SDK_EXTRAS, "message", "asctime", "taskName"}
)


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object: time, level, event, logger, its fields, a traceback.

    With `JobContext` on the same handler each line has its tenant, job, run and attempt.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without control characters that a terminal would act on."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return printable_json(json.dumps(line, ensure_ascii=False, default=str))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:  # whatever a caller logs
    """Returns the fields of a record that `extra` and `JobContext` have added."""
    return {name: value for name, value in vars(record).items() if name not in _OF_RECORDS}
