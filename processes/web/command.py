"""The command line of `python -m processes.web`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from processes import logs
from processes.connect import observed
from processes.lifecycle.program import run_program
from processes.web.serve import Listening, serve
from saas.settings import load_settings, refuse_misspelled_settings

PORT = 8000


def main(arguments: Sequence[str]) -> int:
    """Serves, and returns the exit code; prints one sentence if it cannot serve."""

    def web(
        host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free port.")
        ] = PORT,
        ready_file: Annotated[
            Path | None, typer.Option(help="A JSON file to write when ready to serve.")
        ] = None,
    ) -> None:
        """Serves HTTP until SIGTERM or Ctrl-C, then finishes the requests in progress."""
        refuse_misspelled_settings()
        settings = load_settings()
        logs.configure(settings.log_level, settings.log_format, worker="web")
        with observed(settings, "web"):
            serve(Listening(host, port, ready_file), settings)

    return run_program(web, arguments, name="python -m processes.web")
