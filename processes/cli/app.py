"""The command line of `starter.py`: the groups of commands, joined.

What a command does is imported when it is called, so that `--help` and a mistyped option answer at
once: the servers' libraries take a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from processes.cli.answers import drop_output, say
from processes.cli.commands import (
    api_keys,
    dead_letters,
    imports,
    installation,
    jobs,
    outbox,
    schedules,
    tenants,
    ticks,
)
from processes.cli.failures import FAILED, INTERRUPTED, report

app = typer.Typer(
    help="Background jobs of a multi-tenant SaaS: start them, follow them, account for them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(jobs.app)
app.add_typer(installation.app)
app.add_typer(outbox.app, name="outbox")
app.add_typer(schedules.app, name="schedules")
app.add_typer(tenants.app, name="tenants")
app.add_typer(ticks.app, name="ticks")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(imports.app, name="imports")


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    json = "--json" in arguments
    try:
        result = app(args=list(arguments), prog_name="starter.py", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        drop_output()  # whoever read has gone, as in "… | head"
        return FAILED
    except Exception as error:
        return report(error, json=json, debug="--debug" in arguments)
    if result == INTERRUPTED:  # so typer too answers Ctrl-C in a command
        say("Interrupted: what has been started goes on.")
    return result if isinstance(result, int) else 0


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    """Background jobs of a multi-tenant SaaS: start them, follow them, account for them."""
