"""Builds the command line and runs one command.

Each command imports its code when it is called: the servers' libraries take a second to load, and
`--help` and a mistyped option answer without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer

from temporal_tenancy.cli._exit_codes import ExitCode
from temporal_tenancy.cli._failures import report
from temporal_tenancy.cli.answers import drop_output, say, write
from temporal_tenancy.cli.commands import (
    dead_letters,
    deployments,
    installation,
    jobs,
    outbox,
    plans,
    schedules,
    stores,
    tenants,
    ticks,
    top,
    usage,
)
from temporal_tenancy.cli.program import Program, use_program

HELP: Final = "Background jobs of a multi-tenant SaaS: start them, follow them, account for them."


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    # Imported here: no other option needs it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        write(f"temporal-tenancy {version('temporal-tenancy')}")
    except PackageNotFoundError:
        write("temporal-tenancy, from its sources")
    raise typer.Exit()


Version = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
]


def command_line(program: Program, own: Iterable[typer.Typer] = ()) -> typer.Typer:
    """Returns the library's commands for a program; more groups can be added to it.

    `own` holds the application's commands that belong to no group.
    """
    app = typer.Typer(
        help=HELP, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
    )
    app.callback()(_options)
    app.add_typer(jobs.app)
    app.add_typer(installation.checks)
    app.add_typer(usage.app)
    app.add_typer(top.app)
    for group in own:
        app.add_typer(group)
    app.add_typer(installation.migrations(program))
    app.add_typer(outbox.app, name="outbox")
    app.add_typer(schedules.group(program), name="schedules")
    app.add_typer(tenants.app, name="tenants")
    app.add_typer(plans.app, name="plans")
    app.add_typer(stores.app, name="stores")
    app.add_typer(ticks.app, name="ticks")
    app.add_typer(dead_letters.app, name="dead-letters")
    app.add_typer(deployments.app, name="deployments")
    return app


def run(app: typer.Typer, program: Program, arguments: Sequence[str]) -> int:
    """Runs one command of `app` for a program, and returns its exit code."""
    with use_program(program):
        json = "--json" in arguments
        try:
            result = app(args=list(arguments), prog_name=program.name, standalone_mode=False)
        except (KeyboardInterrupt, typer.Abort):
            result = ExitCode.INTERRUPTED
        except BrokenPipeError:
            drop_output()  # the reader has gone, as in "… | head"
            return ExitCode.FAILED
        except SystemExit as error:
            # Imported here: only a failure needs it.
            from temporal_tenancy.core.places import is_of_an_import

            if not is_of_an_import(error):
                raise
            return report(error, json=json, debug="--debug" in arguments)
        except Exception as error:
            return report(error, json=json, debug="--debug" in arguments)
        if result == ExitCode.INTERRUPTED:  # typer returns this for Ctrl-C in a command
            say("Interrupted: jobs that have started keep running.")
        return result if isinstance(result, int) else 0


def _options(debug: Debug = False, version: Version = False) -> None:
    """Accepts the options that come before a command."""
