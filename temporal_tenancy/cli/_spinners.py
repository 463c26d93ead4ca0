"""Keeps log lines out of the line on which a spinner or a progress bar is drawn."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def logs_on(console: Console) -> Iterator[None]:
    """In the block, prints log lines and warnings above what `console` draws.

    To be entered inside what draws: it has put a stream of its own in the place of standard error,
    which warnings use then, but a log handler keeps the stream that it was made with.
    """
    redirected = sys.stderr
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__
    ]
    if not console.is_terminal or redirected is sys.__stderr__:
        yield
        return
    for handler in handlers:
        handler.setStream(redirected)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(sys.__stderr__)
