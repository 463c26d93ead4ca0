"""Keeps log lines out of the line on which a spinner or a progress bar is drawn."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """In the block, says on a terminal what the command waits for."""
    # Imported here: whoever only draws below log lines has a console of its own.
    from temporal_tenancy.cli.answers import err, shown_as_text

    if not err.is_terminal:
        yield
        return
    with err.status(shown_as_text(f"{what}…")), logs_on(err):
        yield


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
