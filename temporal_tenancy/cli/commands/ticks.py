"""Commands that show ticks and catch up on missed ones."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import JobName, Json, Tick, Wait

app = typer.Typer(help="The ledger: each tenant's state in each tick.", no_args_is_help=True)

AnyJob = Annotated[str | None, typer.Argument(metavar="[JOB]")]


@app.command("list")
def show_all(
    job: AnyJob = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """List the latest ticks."""
    from temporal_tenancy.cli import ticks

    perform(ticks.show_all(job, limit), json=json)


@app.command()
def show(job: JobName, tick: Tick = None, json: Json = False) -> None:
    """Show each tenant's state in a tick; without --tick in the latest."""
    from temporal_tenancy.cli import ticks

    perform(ticks.show(job, tick), json=json)


@app.command()
def missed(
    job: AnyJob = None,
    tick: Tick = None,
    json: Json = False,
) -> None:
    """List ticks that never began, and tenants that may run but have not."""
    from temporal_tenancy.cli import catch_up

    perform(catch_up.missed(job, tick), json=json)


@app.command()
def catch_up(
    job: AnyJob = None,
    tick: Tick = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Run the missed tenants, except those that have succeeded."""
    from temporal_tenancy.cli import catch_up

    perform(catch_up.catch_up(job, tick, wait=wait, quiet=json), json=json)
