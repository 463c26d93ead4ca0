"""The ledger of ticks, and catching up with it."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import JobName, Json, Tick, Wait

app = typer.Typer(help="The ledger: what became of each tenant.", no_args_is_help=True)

AnyJob = Annotated[str | None, typer.Argument(metavar="[JOB]")]


@app.command("list")
def show_all(
    job: AnyJob = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """The ticks that began last."""
    from temporal_tenancy.cli import ticks

    perform(ticks.show_all(job, limit), json=json)


@app.command()
def show(job: JobName, tick: Tick = None, json: Json = False) -> None:
    """What became of each tenant in a tick. [default: the latest]"""
    from temporal_tenancy.cli import ticks

    perform(ticks.show(job, tick), json=json)


@app.command()
def missed(
    job: AnyJob = None,
    tick: Tick = None,
    json: Json = False,
) -> None:
    """Ticks that never began, and tenants who may run and have not had their run."""
    from temporal_tenancy.cli import catch_up

    perform(catch_up.missed(job, tick), json=json)


@app.command()
def catch_up(
    job: AnyJob = None,
    tick: Tick = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Run whoever was missed. Who has succeeded is left alone."""
    from temporal_tenancy.cli import catch_up

    perform(catch_up.catch_up(job, tick, wait=wait), json=json)
