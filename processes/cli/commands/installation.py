"""What an installation has: its checks, settings and migrations."""

from __future__ import annotations

import typer

from processes.cli.answers import perform
from processes.cli.commands.options import Json

app = typer.Typer()


@app.command()
def doctor(json: Json = False) -> None:
    """Check everything that has to be right; exit code 1 if something is not."""
    from processes.cli import doctor

    perform(doctor.examine(), json=json)


@app.command()
def settings(json: Json = False) -> None:
    """What the environment says, with secrets masked."""
    from processes.cli import environment

    perform(environment.show(), json=json)


@app.command()
def migrate(json: Json = False) -> None:
    """Make the database's roles and tables, as the owner that DATABASE_URL names."""
    from processes.cli import migrations

    perform(migrations.migrate_all(), json=json)
