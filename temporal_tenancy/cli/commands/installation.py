"""Commands that check an installation and migrate its database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json
from temporal_tenancy.cli.program import Program

checks = typer.Typer()


def _url(whose: str) -> Any:  # as typer declares it
    return typer.Option(metavar="URL", help=f"Of {whose}.", show_default="the application's")


@checks.command()
def doctor(
    patience: Annotated[
        float,
        typer.Option(
            min=1,
            max=60,
            metavar="SECONDS",
            help="How long a relay, and then the workers, have to answer the probe; a try of the "
            "fairness probe has three times as long.",
        ),
    ] = 10,
    json: Json = False,
) -> None:
    """Check the installation, and put a probe through it; exit code 1 if a check fails."""
    from datetime import timedelta

    from temporal_tenancy.cli import doctor

    perform(doctor.examine(timedelta(seconds=patience)), json=json)


def migrations(program: Program) -> typer.Typer:
    """Returns the command; its help says where the owner's URL is set."""
    app = typer.Typer()
    app.command(
        help=f"Create the database's roles and tables, as the owner that {program.owner} names."
    )(migrate)
    return app


def migrate(
    *,
    database_url: Annotated[str | None, _url("the database's owner")] = None,
    tenant_url: Annotated[str | None, _url("the tenants' role, with its password")] = None,
    platform_url: Annotated[str | None, _url("the platform's role, with its password")] = None,
    relay_url: Annotated[str | None, _url("the relay's role, with its password")] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The schema of the library's tables.",
            show_default="the application's",
        ),
    ] = None,
    move: Annotated[
        bool,
        typer.Option(
            "--move",
            help="Also move the library's tables to their schema, from public, where earlier "
            "releases made them, or from the one that has them. Their old names remain as views.",
        ),
    ] = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="With --move: drop those views, and do nothing else."),
    ] = False,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside",
            help="Make a second installation, though another schema of the database has one.",
        ),
    ] = False,
    harden: Annotated[
        bool,
        typer.Option(
            "--harden",
            help="List what every role of the server may do in the database, and change nothing.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --harden: migrate, and take it away.")
    ] = False,
    json: Json = False,
) -> None:
    """Migrates the database."""
    from temporal_tenancy.cli import migrations
    from temporal_tenancy.cli._named_database import NamedDatabase, use_named_database

    if finish and not move:
        raise typer.BadParameter("--finish goes with --move.")
    if yes and not harden:
        raise typer.BadParameter("--yes goes with --harden.")
    if move and harden:
        raise typer.BadParameter("--move and --harden are two steps. Give one at a time.")
    if beside and (move or (harden and not yes)):
        raise typer.BadParameter("--beside goes with neither --move nor --harden alone.")
    named = NamedDatabase(database_url, tenant_url, platform_url, relay_url, schema)
    with use_named_database(named):
        if finish:
            perform(migrations.finish_move(), json=json)
        elif move:
            perform(migrations.migrate_and_move(), json=json)
        elif harden and not yes:
            perform(migrations.show_openings(), json=json)
        else:
            perform(migrations.migrate_all(harden=harden, beside=beside), json=json)
