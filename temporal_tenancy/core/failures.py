"""Failures in words: what was behind one, its type, and the sentence that people are shown."""

from __future__ import annotations

from typing import Final

from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
    TimeoutError,
)

SENTENCE_MAX_CHARACTERS: Final = 500


def root_cause(error: BaseException) -> BaseException:
    """The innermost failure: that of the activity, behind the workflow's and the child's."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error


def type_of(error: BaseException) -> str:
    """A failure's type in one word; a job may call its own whatever it likes, so it is cut."""
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
    """What a failure says, without its type; nothing where its own code fails to say it."""
    if isinstance(error, FailureError):
        return error.message
    try:
        return str(error)
    except Exception:  # a class of anyone's, and numbers that are too long to be written
        return ""


def sentence_of(error: BaseException) -> str:
    """A failure in one sentence, `type: message`, as people are shown it."""
    message = message_of(error)
    prefix = f"{type_of(error)}: "
    text = message if message.startswith(prefix) else f"{prefix}{message}"
    return cut(text)


def cut(text: str) -> str:
    """`text` as far as it is shown and kept: 500 characters."""
    return text if len(text) <= SENTENCE_MAX_CHARACTERS else f"{text[:SENTENCE_MAX_CHARACTERS]}…"


def plain(text: str) -> str:
    """`text` as the database takes it, cut to 500 characters."""
    return cut(text.replace("\x00", "").encode("utf-8", "replace").decode())


def failure_of(error: BaseException) -> tuple[str, str]:
    """Returns the type and the sentence of the error at the root of `error`.

    An activity's failure reaches a workflow wrapped in others; the root is the one to show.
    """
    cause = root_cause(error)
    return type_of(cause), sentence_of(cause)
