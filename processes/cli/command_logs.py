"""The logs of a command, whose output is its answer: warnings, on standard error."""

from __future__ import annotations

import logging
import sys
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from processes.logs import Format


def configure(format: Format | None) -> None:
    """Sends the process's warnings to standard error; LOG_LEVEL is for long-running processes.

    Args:
        format: as for `processes.logs.configure`.
    """
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.addHandler(_Later(format))


class _Later(logging.Handler):
    """Makes the handler of the logs when the first line arrives: it loads slowly, and few do."""

    def __init__(self, format: Format | None) -> None:
        super().__init__()
        self._format = format

    @cached_property
    def _handler(self) -> logging.StreamHandler[TextIO]:
        from processes import logs

        return logs.handler(format=self._format)

    def emit(self, record: logging.LogRecord) -> None:
        # A spinner and a progress bar put a stream of their own in the place of standard error.
        if self._handler.stream is not sys.stderr:
            self._handler.setStream(sys.stderr)
        self._handler.handle(record)
