"""The schedules: in force, paused, and made up for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from processes.cli.answers import perform
from processes.cli.commands.options import JobName, Json, Reason

app = typer.Typer(help="When jobs run for every tenant.", no_args_is_help=True)

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ"]


@app.command()
def apply(json: Json = False) -> None:
    """Put workflows/schedules.py in force. Done twice, it changes nothing; a pause stays."""
    from processes.cli import schedules

    perform(schedules.apply(), json=json)


@app.command("list")
def show_all(json: Json = False) -> None:
    """Next and last runs, and where the server differs from workflows/schedules.py."""
    from processes.cli import schedules

    perform(schedules.show_all(), json=json)


@app.command()
def pause(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start no further ticks, until it is resumed."""
    from processes.cli import schedules

    perform(schedules.pause(job, reason), json=json)


@app.command()
def resume(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start ticks again."""
    from processes.cli import schedules

    perform(schedules.resume(job, reason), json=json)


@app.command()
def trigger(job: JobName, json: Json = False) -> None:
    """Start a tick now, for the last whole period."""
    from processes.cli import schedules

    perform(schedules.trigger(job), json=json)


@app.command()
def backfill(
    job: JobName,
    since: Annotated[datetime, typer.Option("--from", formats=DATES, help="UTC, inclusive.")],
    until: Annotated[datetime, typer.Option("--to", formats=DATES, help="UTC, inclusive.")],
    json: Json = False,
) -> None:
    """Run the ticks that were due between two dates, one after the other."""
    from processes.cli import schedules

    perform(schedules.backfill(job, since, until), json=json)


@app.command()
def preview(
    hours: Annotated[int, typer.Option(min=1, max=24 * 7, help="How far to look.")] = 24,
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=DATES, help="UTC. [default: this hour]"),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw it, as PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """How many tenants' jobs will start, and when, with and without spread."""
    from processes.cli import previews

    perform(previews.preview(hours, since, png), json=json)
