"""The command `tenancy`: the library's commands, for the application that is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from temporal_tenancy.cli._app import Debug, command_line, run
from temporal_tenancy.cli.program import Application, Program

VARIABLE: Final = "TENANCY_APP"


def tenancy(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    named: list[str] = []

    def load() -> Application:
        # Imported here: it loads the SDK, which help does not need.
        from temporal_tenancy.cli._application_lookup import find_application

        return find_application(named[0] if named else None)

    program = Program(load=load, owner="--database-url, or the application,")
    app = command_line(program)

    @app.callback()
    def options(
        application: Annotated[
            str | None,
            typer.Option(
                "--app",
                metavar="MODULE:ATTRIBUTE",
                envvar=VARIABLE,
                help="The application, such as myapp.tenancy:application.",
                show_default="what this folder's pyproject.toml or an installed package names",
            ),
        ] = None,
        debug: Debug = False,
    ) -> None:
        """Accepts the options that come before a command."""
        if application:
            named.append(application)

    return run(app, program, arguments)
