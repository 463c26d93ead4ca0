"""The command line of `python -m web`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import logs
from settings import load_settings
from temporal_tenancy.errors import ConfigurationError
from web.serve import Listening, serve
from worker_process.exits import ExitCode, WorkerExit

PORT = 8000


def main(arguments: Sequence[str]) -> int:
    """Serves, and returns the exit code; what keeps it from serving is one sentence."""

    def web(
        host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = PORT,
        ready_file: Annotated[
            Path | None, typer.Option(help="Written, as JSON, when it answers.")
        ] = None,
    ) -> None:
        """Answers HTTP until SIGTERM or Ctrl-C; what is being answered may finish."""
        settings = load_settings()
        logs.configure(settings.log_level, settings.log_format, worker="web")
        serve(Listening(host, port, ready_file), settings)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(web)
    try:
        result = app(args=list(arguments), prog_name="python -m web", standalone_mode=False)
    except WorkerExit as exit:
        return _refuse(exit.sentence, exit.code)
    except ConfigurationError as error:
        return _refuse(f"{type(error).__name__}: {error}", ExitCode.BAD_USAGE)
    except typer.TyperException as error:
        return _refuse(f"UsageError: {error.format_message()}", ExitCode.BAD_USAGE)
    return result if isinstance(result, int) else 0


def _refuse(sentence: str, code: ExitCode) -> int:
    print(sentence, file=sys.stderr)
    return code
