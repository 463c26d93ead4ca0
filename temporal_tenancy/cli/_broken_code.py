"""The application's own code, where it cannot be imported."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from temporal_tenancy.cli._exit_codes import ExitCode
from temporal_tenancy.cli._failures import Refusal
from temporal_tenancy.cli._process_exit import exit_process
from temporal_tenancy.core.places import is_of_an_import, line_of

IMPORTING: Final = "importing the application"


class ApplicationBroken(Refusal):
    """The application's own code failed while it was loaded."""


@contextmanager
def importing_code() -> Iterator[None]:
    """Ends the process with one sentence if a file that the block imports cannot be imported.

    Garbage is not collected meanwhile: modules stay, and looking through them takes a sixth of the
    time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except (Exception, SystemExit) as error:
        # Imported here: only a failure needs it, and it loads the SDK.
        from temporal_tenancy.core.errors import ConfigurationError

        if isinstance(error, ConfigurationError):  # of a job's declaration
            print(f"ConfigurationError: {error}", file=sys.stderr)
        elif (said := import_failure(error)) is not None:
            print(said, file=sys.stderr)
        else:
            raise
        exit_process(ExitCode.REFUSED)
    finally:
        if collects:
            gc.enable()


def import_failure(error: BaseException) -> str | None:
    """Returns the sentence for code that cannot be imported; None for an error of another time."""
    if not is_of_an_import(error):
        return None
    return f"{ApplicationBroken.__name__}: {_sentence(IMPORTING, error)}"


def failed(what: str, error: BaseException) -> ApplicationBroken:
    """Returns the error that says that `what` failed, where, and why."""
    return ApplicationBroken(
        f'{_sentence(what, error)} "--debug" before the command shows the traceback.'
    )


def _sentence(what: str, error: BaseException) -> str:
    return f"{what} failed{_place(error)}: {_cause(error)}"


def _place(error: BaseException) -> str:
    """Returns where in the application an error was raised; empty if that is not known."""
    if (found := line_of(error)) is None:
        return ""
    file, line = found
    return f" at {file.removeprefix(os.path.join(os.getcwd(), ''))}:{line}"


def _cause(error: BaseException) -> str:
    # Imported here: only a failure needs them.
    from pydantic import ValidationError

    from temporal_tenancy.core.display import printable
    from temporal_tenancy.core.field_problems import problem_of_field

    kind = type(error).__name__
    if isinstance(error, ValidationError):  # whose text quotes values, such as passwords
        first = error.errors(include_url=False, include_input=False)[0]
        problem = problem_of_field({**first, "loc": first["loc"] or [error.title]})
        return f"{kind}: {printable(problem)}."
    text = error.msg if isinstance(error, SyntaxError) else str(error).strip()
    if not text:
        return f"{kind}."
    line = printable(text.splitlines()[0])
    return f"{kind}: {line}" if line.endswith((".", "!", "?")) else f"{kind}: {line}."
