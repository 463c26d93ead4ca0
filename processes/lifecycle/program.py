"""Runs a process's command, and turns its errors into one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from processes.lifecycle.exits import WorkerExit
from saas.hints import with_hint
from temporal_tenancy import ConfigurationError
from temporal_tenancy.cli import ExitCode, import_failure
from temporal_tenancy.lifecycle import PortInUse, ProcessProblem


def run_program(command: Callable[..., None], arguments: Sequence[str], *, name: str) -> int:
    """Runs `command` with the command line's options, and returns the exit code.

    If the command cannot run, it prints one sentence on standard error.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        result = app(args=list(arguments), prog_name=name, standalone_mode=False)
    except WorkerExit as exit:
        return _refuse(exit.sentence, exit.code)
    except PortInUse as error:
        return _refuse(error.sentence, ExitCode.NOT_REACHABLE)
    except ProcessProblem as error:
        return _refuse(error.sentence, ExitCode.FAILED)
    except ConfigurationError as error:
        return _refuse(f"{type(error).__name__}: {error}", ExitCode.REFUSED)
    except typer.TyperException as error:
        return _refuse(f"UsageError: {error.format_message()}", ExitCode.REFUSED)
    except (Exception, SystemExit) as error:
        if (said := import_failure(error)) is None:
            raise
        return _refuse(said, ExitCode.REFUSED)
    return result if isinstance(result, int) else 0


def _refuse(sentence: str, code: ExitCode) -> int:
    print(with_hint(sentence), file=sys.stderr)
    return code
