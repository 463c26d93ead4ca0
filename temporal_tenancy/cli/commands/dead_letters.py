"""Commands that list, show, replay and discard dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands._filters import Filter, of_letters
from temporal_tenancy.cli.commands.options import Json, Wait

app = typer.Typer(
    help="Jobs that failed permanently, and running them again.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID")]
By = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who does it.", show_default="this user")
]


@app.command("list")
@of_letters(status=True)
def show_all(
    where: Filter,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1000,
    json: Json = False,
) -> None:
    """List the jobs that failed permanently, the latest first."""
    from temporal_tenancy.cli import dead_letters

    perform(dead_letters.show_all(where, limit), json=json)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID")],
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Whose it is.")] = None,
    json: Json = False,
) -> None:
    """Show one, with the input of its job."""
    from temporal_tenancy.cli import dead_letters

    perform(dead_letters.show(letter, tenant), json=json)


@app.command()
@of_letters(status=True)
def replay(
    where: Filter,
    ids: Ids = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Replay one per tenant first, and wait for it.")
    ] = False,
    wait: Wait = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Start jobs again, each in its own tenant, with its own key and input."""
    from temporal_tenancy.cli import replays

    perform(
        replays.start_again(ids or [], where, canary=canary, wait=wait, by=by, quiet=json),
        json=json,
    )


@app.command()
@of_letters()
def discard(where: Filter, ids: Ids = None, by: By = None, json: Json = False) -> None:
    """Discard open ones: they are not run again."""
    from temporal_tenancy.cli import dead_letters

    perform(dead_letters.discard(ids or [], where, by), json=json)
