"""A format for the log lines of a process: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from temporal_tenancy.core.display import printable_json
from temporal_tenancy.core.redaction import redacted, shown, traceback_of
from temporal_tenancy.sdk.logs import SDK_EXTRAS, is_of_a_job

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
            "event": redacted(record.getMessage()),
            "logger": record.name,
            **fields_of(record),
        }
        if (exception := exception_of(record)) is not None:
            line["exception"] = exception
        return printable_json(json.dumps(line, ensure_ascii=False))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:  # whatever a caller logs
    """Returns what `extra` and `JobContext` have added, without credentials and payloads."""
    return {
        name: shown(name, value) for name, value in vars(record).items() if name not in _OF_RECORDS
    }


def exception_of(record: logging.LogRecord) -> str | None:
    """Returns a record's traceback without local variables; of a job's, without quoted data."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return None
    return traceback_of(error, of_a_job=is_of_a_job(vars(record), record.name))
