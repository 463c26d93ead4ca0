"""Commands that apply, pause, trigger, backfill and preview schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import JobName, Json, Reason
from temporal_tenancy.cli.program import Program

INCLUSIVE: Final = 'UTC, inclusive, such as "2013-05-01".'


def group(program: Program) -> typer.Typer:
    """Returns the commands; their help says where the schedules are declared."""
    app = typer.Typer(help="When jobs run for every tenant.", no_args_is_help=True)
    declared = program.schedules
    app.command(
        help=f"Put {declared} in force. Safe to repeat; a paused schedule stays paused.",
    )(apply)
    app.command(
        "list", help=f"Show next and last runs, and where the server differs from {declared}."
    )(show_all)
    for command in (pause, resume, trigger, backfill, preview):
        app.command()(command)
    return app


def apply(json: Json = False) -> None:
    """Puts the declared schedules in force."""
    from temporal_tenancy.cli import schedules

    perform(schedules.apply(), json=json)


def show_all(json: Json = False) -> None:
    """Shows the schedules."""
    from temporal_tenancy.cli import schedules

    perform(schedules.show_all(), json=json)


def pause(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start no more ticks until it is resumed."""
    from temporal_tenancy.cli import schedules

    perform(schedules.pause(job, reason), json=json)


def resume(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start ticks again."""
    from temporal_tenancy.cli import schedules

    perform(schedules.resume(job, reason), json=json)


def trigger(job: JobName, json: Json = False) -> None:
    """Start a tick now, for the last whole period."""
    from temporal_tenancy.cli import schedules

    perform(schedules.trigger(job), json=json)


def backfill(
    job: JobName,
    since: Annotated[str, typer.Option("--from", metavar="DATE", help=INCLUSIVE)],
    until: Annotated[str, typer.Option("--to", metavar="DATE", help=INCLUSIVE)],
    yes: Annotated[bool, typer.Option("--yes", help="Also if these are many ticks.")] = False,
    json: Json = False,
) -> None:
    """Run the ticks that were due between two dates, one after the other."""
    from temporal_tenancy.cli import schedules

    perform(schedules.backfill(job, since, until, yes=yes), json=json)


def preview(
    hours: Annotated[int, typer.Option(min=1, max=24 * 7, help="How many hours to preview.")] = 24,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", help="UTC.", show_default="this hour"),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw the curve as PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Show how many tenants' jobs will start, and when, with and without spread."""
    from temporal_tenancy.cli import previews

    perform(previews.preview(hours, since, png), json=json)
