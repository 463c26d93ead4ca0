"""The settings."""

from __future__ import annotations

import typer

from temporal_tenancy.cli import Json, perform

app = typer.Typer()


@app.command()
def settings(json: Json = False) -> None:
    """What the environment says, with secrets masked."""
    from processes.cli import environment

    perform(environment.show(), json=json)
