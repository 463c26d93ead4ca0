"""The command line of `python -m processes.web`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from processes import logs
from processes.lifecycle.program import run_program
from processes.web.serve import Listening, serve
from saas.settings import load_settings

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

    return run_program(web, arguments, name="python -m processes.web")
