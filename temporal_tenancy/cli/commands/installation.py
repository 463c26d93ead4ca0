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
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Show which stores would be migrated when; change nothing."),
    ] = False,
    status: Annotated[
        bool,
        typer.Option(
            "--status", help="Show how far the stores have been migrated; change nothing."
        ),
    ] = False,
    wave: Annotated[
        str | None,
        typer.Option(
            metavar="WAVE",
            help="Migrate the stores of this wave alone: canaries, a number, or next.",
            show_default="all",
        ),
    ] = None,
    canaries: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Tenants with stores of their own, or stores, that are migrated before others.",
            show_default="none",
        ),
    ] = None,
    wave_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="How many stores are in the waves after the canaries; the last repeats.",
            show_default="10,50,250",
        ),
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many stores of a wave may fail, and the next still begins; of the canaries "
            "none.",
            show_default="3",
        ),
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(
            min=3,
            help="How many connections to the server migrations may have; two for each store at a "
            "time.",
            show_default="9",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Ask each database store which migrations it has, as after one was restored.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Migrates the database."""
    from temporal_tenancy.cli import migrations, store_migrations
    from temporal_tenancy.cli._fleet import waves_of
    from temporal_tenancy.cli._named_database import NamedDatabase, use_named_database

    if finish and not move:
        raise typer.BadParameter("--finish goes with --move.")
    if yes and not harden:
        raise typer.BadParameter("--yes goes with --harden.")
    if move and harden:
        raise typer.BadParameter("--move and --harden are two steps. Give one at a time.")
    if beside and (move or (harden and not yes)):
        raise typer.BadParameter("--beside goes with neither --move nor --harden alone.")
    if (plan or status) and (plan == status or move or harden or beside or wave or verify):
        raise typer.BadParameter("--plan and --status change nothing. Give one of them alone.")
    if wave is not None and (move or (harden and not yes)):
        raise typer.BadParameter("--wave goes with neither --move nor --harden alone.")
    waves = waves_of(canaries, wave_sizes, max_failures, connections)
    named = NamedDatabase(database_url, tenant_url, platform_url, relay_url, schema)
    with use_named_database(named):
        if plan:
            perform(store_migrations.plan(waves), json=json)
        elif status:
            perform(store_migrations.status(), json=json)
        elif finish:
            perform(migrations.finish_move(), json=json)
        elif move:
            perform(migrations.migrate_and_move(), json=json)
        elif harden and not yes:
            perform(migrations.show_openings(), json=json)
        else:
            perform(
                migrations.migrate_all(
                    harden=harden, beside=beside, waves=waves, wave=wave, verify=verify
                ),
                json=json,
            )
