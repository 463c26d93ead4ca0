"""The command `tenancy`: the library's commands, for the application that is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from temporal_tenancy.cli._app import Debug, Version, command_line, run
from temporal_tenancy.cli._hints import Hints
from temporal_tenancy.cli.commands import processes
from temporal_tenancy.cli.program import Application, Program

VARIABLE: Final = "TENANCY_APP"


def tenancy(arguments: Sequence[str], *, name: str = "tenancy") -> int:
    """Runs one command and returns its exit code; `name` is how a person calls it."""
    program, app = program_and_commands(name)
    return run(app, program, arguments)


def program_and_commands(name: str = "tenancy") -> tuple[Program, typer.Typer]:
    """Returns the program, which finds its application when it needs it, and its commands."""
    named: list[str] = []

    def load() -> Application:
        # Imported here: it loads the SDK, which help does not need.
        from temporal_tenancy.cli._application_lookup import find_application

        return find_application(named[0] if named else None)

    program = Program(load=load, hints=Hints(name), owner="--database-url, or the application,")
    app = command_line(program, [processes.app])

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
        version: Version = False,
    ) -> None:
        """Accepts the options that come before a command."""
        if application:
            named.append(application)

    return program, app
