"""The cause, type and message of a failure, as logs, tables and users see them."""

from __future__ import annotations

from typing import Final

from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
    TimeoutError,
)

from temporal_tenancy.core.redaction import words_of

SENTENCE_MAX_CHARACTERS: Final = 500


def root_cause(error: BaseException) -> BaseException:
    """Returns the innermost cause: the activity's failure inside the child's and the workflow's."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error


def type_of(error: BaseException) -> str:
    """Returns a failure's type in one word, cut to 500 characters as jobs can choose any."""
    if isinstance(error, ApplicationError):
        return cut(error.type or "ApplicationError")
    if isinstance(error, TimeoutError):
        return f"Timeout.{error.type.name}" if error.type else "Timeout"
    if isinstance(error, TerminatedError):
        return "Terminated"
    if isinstance(error, CancelledError):
        return "Cancelled"
    return type(error).__name__


def message_of(error: BaseException) -> str:
    """Returns a failure's message without its type and without credentials (see `words_of`)."""
    return words_of(error)


def sentence_of(error: BaseException) -> str:
    """Returns a failure as `type: message`, cut to 500 characters."""
    message = message_of(error)
    prefix = f"{type_of(error)}: "
    text = message if message.startswith(prefix) else f"{prefix}{message}"
    return cut(text)


def cut(text: str) -> str:
    """Cuts `text` to 500 characters and marks the cut with an ellipsis."""
    return text if len(text) <= SENTENCE_MAX_CHARACTERS else f"{text[:SENTENCE_MAX_CHARACTERS]}…"


def storable(text: str) -> str:
    """Cuts `text` to 500 characters and removes what PostgreSQL cannot store.

    NUL characters are dropped, and lone surrogates become "?".
    """
    return cut(text.replace("\x00", "").encode("utf-8", "replace").decode())


def failure_of(error: BaseException) -> tuple[str, str]:
    """Returns the type and the sentence of the error at the root of `error`.

    An activity's failure reaches a workflow wrapped in others; the root is the one to show.
    """
    cause = root_cause(error)
    return type_of(cause), sentence_of(cause)
