"""The command line of `starter.py`: the library's commands, and the reference SaaS's own."""

from __future__ import annotations

from collections.abc import Sequence

from processes.cli.commands import (
    api_keys,
    exports,
    imports,
    integrations,
    reports,
    search,
    settings,
)
from processes.cli.program import PROGRAM
from temporal_tenancy.cli import command_line, run

app = command_line(PROGRAM, own=[search.app, settings.app])
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(imports.app, name="imports")
app.add_typer(exports.app, name="exports")
app.add_typer(reports.app, name="reports")
app.add_typer(integrations.app, name="integrations")


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    return run(app, PROGRAM, arguments)
