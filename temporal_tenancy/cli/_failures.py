"""Reports an error as one sentence and an exit code."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping
from typing import Final

import typer

from temporal_tenancy.cli._exit_codes import ExitCode
from temporal_tenancy.cli.answers import OutputLost, drop_output, print_json, say
from temporal_tenancy.cli.program import current_program, message_with_hint, quoted
from temporal_tenancy.core.field_problems import in_plain_words
from temporal_tenancy.core.nearest import nearest


class Refusal(Exception):
    """The command cannot run with these arguments; nothing was started."""


class ScheduleUnknown(Refusal):
    """The schedule does not exist."""


class TickUnknown(Refusal):
    """The ledger does not have the tick."""


class DeadLetterUnknown(Refusal):
    """The dead letter does not exist."""


class DeadLetterAmbiguous(Refusal):
    """Several tenants have a dead letter with that id."""


class FilterMissing(Refusal):
    """The command names neither ids nor a filter."""


class RunUnknown(Refusal):
    """The run does not exist."""


_EXTRA: Final = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)")
_NO_TEXT: Final = (
    "a value has a NUL character, or bytes that are not UTF-8, which no database takes as text. "
    "Leave them out."
)
_TOO_MANY: Final = r"Too many arguments: \1"


def report(error: BaseException, *, json: bool, debug: bool) -> int:
    """Prints an error and returns the exit code; prints a traceback only with `debug`."""
    code, kind, message = _classified(error)
    message = message_with_hint(kind, message)
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if json:
        try:
            print_json({"error": {"type": kind, "message": message}})
        except BrokenPipeError:
            drop_output()  # the reader has gone
        except OutputLost:
            pass  # the sentence below reports it
    say(f"{kind}: {message}")
    return code


def _classified(error: BaseException) -> tuple[int, str, str]:
    """Returns the exit code, type and message."""
    if isinstance(error, typer.TyperException):
        return ExitCode.REFUSED, "UsageError", _usage(error)
    if isinstance(error, OutputLost):
        return ExitCode.FAILED, "OutputLost", str(error)
    if isinstance(error, Refusal):
        return ExitCode.REFUSED, type(error).__name__, str(error)

    from sqlalchemy.exc import DBAPIError
    from temporalio.service import RPCError

    from temporal_tenancy.cli._broken_code import IMPORTING, ApplicationBroken, failed
    from temporal_tenancy.cli._not_reachable import NotReachable
    from temporal_tenancy.core.errors import ConfigurationError, TenancyError
    from temporal_tenancy.core.places import is_of_an_import
    from temporal_tenancy.lifecycle import PortInUse, ProcessProblem
    from temporal_tenancy.postgres.database_errors import DatabaseProblem, MigrationsBehind
    from temporal_tenancy.postgres.sql_directory import DirectoryUnreadable
    from temporal_tenancy.sdk.search_attributes import SearchAttributesMissing
    from temporal_tenancy.stores.errors import ConnectionSecretMissing, StoreUnreachable

    kind = type(error).__name__
    for error_type, code in _applications_own().items():
        if isinstance(error, error_type):
            return code, kind, getattr(error, "message", str(error))
    if isinstance(error, TenancyError):
        return ExitCode.REFUSED, kind, error.message
    if isinstance(error, SearchAttributesMissing):
        return ExitCode.NOT_REACHABLE, kind, str(error)
    if isinstance(error, ConfigurationError):
        return ExitCode.REFUSED, kind, str(error)
    if isinstance(error, NotReachable):
        return ExitCode.NOT_REACHABLE, kind, error.message
    if isinstance(error, DatabaseProblem):
        unready = isinstance(
            error,
            MigrationsBehind | DirectoryUnreadable | StoreUnreachable | ConnectionSecretMissing,
        )
        return (ExitCode.NOT_REACHABLE if unready else ExitCode.FAILED), kind, error.message
    if isinstance(error, ProcessProblem):
        is_port = isinstance(error, PortInUse)
        return (ExitCode.NOT_REACHABLE if is_port else ExitCode.FAILED), kind, error.message
    if is_of_an_import(error):
        return ExitCode.REFUSED, ApplicationBroken.__name__, str(failed(IMPORTING, error))
    if isinstance(error, RPCError):
        return ExitCode.FAILED, "TemporalError", f"{error.message} ({error.status.name})"
    if _is_no_text(error):
        return ExitCode.REFUSED, "TextInvalid", _NO_TEXT
    if isinstance(error, DBAPIError):
        return ExitCode.FAILED, "DatabaseError", str(error.orig).splitlines()[0]
    return (
        ExitCode.FAILED,
        kind,
        f"{_first_line(_with_its_place(error))} This is a bug: {quoted('--debug')} and the rest of "
        "the command shows more.",
    )


def _is_no_text(error: BaseException) -> bool:
    """Whether a value that a person gave cannot be text in a database."""
    from temporal_tenancy.postgres.database_errors import NUL

    if isinstance(error, UnicodeEncodeError):
        return error.reason == "surrogates not allowed"  # as Python reads bytes of an argument
    return NUL in str(getattr(error, "orig", ""))


def _applications_own() -> Mapping[type[Exception], int]:
    """Returns the exit codes of the application's own errors, as far as they can be imported."""
    application = current_program().loaded
    if application is None:
        return {}
    own = application.failures
    try:
        return own() if callable(own) else own
    except Exception:  # a file is broken, and so is what is reported
        return {}


def _with_its_place(error: BaseException) -> str:
    """Returns the error's first line with the place in the application's code, if it is there."""
    from temporal_tenancy.core.places import place_of, with_place

    says = _first_line(str(error) or "it has no message").rstrip(".")
    return with_place(says, place_of(error))


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    # A program that is called without arguments prints its help; the message is then empty.
    says = in_plain_words(error.format_message()) if error.format_message() else ""
    message = _first_line(_option(error) or _EXTRA.sub(_TOO_MANY, says) or "No command is named")
    if context is None:
        return message
    return f'{message} "{context.command_path} --help" shows what it takes.'


def _option(error: typer.TyperException) -> str | None:
    """Returns the sentence for a mistyped option that is like another; None for other errors."""
    name, options = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    option = nearest(name, options) if isinstance(name, str) and options else None
    return None if option is None else f"No such option: {name}. Did you mean {option}?"


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."
