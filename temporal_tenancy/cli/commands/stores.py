"""Commands that prepare, show, drain and remove stores."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json

app = typer.Typer(
    help="Where tenants' rows are, apart from the shared store.", no_args_is_help=True
)

StoreName = Annotated[str, typer.Argument(metavar="STORE", help="As the list has it.")]


@app.command()
def add(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="Its name; one that is being prepared goes on.",
            show_default="a random one",
        ),
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(help="schema or database.", show_default="schema, or as it began"),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Where it is, for placing tenants.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many to prepare.")] = 1,
    at: Annotated[
        str | None,
        typer.Option(
            "--database-url-from",
            metavar="VARIABLE",
            help="The variable with the owner's URL of an empty database for it.",
            show_default="creates a database",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Prepare stores for tenants that will sign up, as the database's owner."""
    from temporal_tenancy.cli import store_preparation

    perform(
        store_preparation.add(store, isolation, region=region, count=count, variable=at), json=json
    )


@app.command("list")
def show_all(
    isolation: Annotated[str | None, typer.Option(help="schema or database.")] = None,
    state: Annotated[str | None, typer.Option(help="preparing, ready, active or draining.")] = None,
    json: Json = False,
) -> None:
    """List the stores in order of their names."""
    from temporal_tenancy.cli import stores

    perform(stores.show_all(isolation, state), json=json)


@app.command()
def show(store: StoreName, json: Json = False) -> None:
    """Show one store."""
    from temporal_tenancy.cli import stores

    perform(stores.show(store), json=json)


@app.command()
def drain(store: StoreName, json: Json = False) -> None:
    """Let a store take no more tenants; those that it has stay."""
    from temporal_tenancy.cli import stores

    perform(stores.drain(store), json=json)


@app.command()
def undrain(store: StoreName, json: Json = False) -> None:
    """Let a drained store take tenants again."""
    from temporal_tenancy.cli import stores

    perform(stores.undrain(store), json=json)


@app.command()
def remove(store: StoreName, json: Json = False) -> None:
    """Drop a store that has no tenant, as the database's owner."""
    from temporal_tenancy.cli import store_preparation

    perform(store_preparation.remove(store), json=json)
