"""The keys of tenants' programs."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli import Json, perform

app = typer.Typer(help="Keys by which programs call the HTTP door.", no_args_is_help=True)

OfTenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose key it is.")]


@app.command()
def create(
    tenant: OfTenant,
    name: Annotated[str, typer.Option(help="What it is for.")],
    json: Json = False,
) -> None:
    """Make a key, and show it this once."""
    from processes.cli import api_keys

    perform(api_keys.create(tenant, name), json=json)


@app.command("list")
def show_all(tenant: OfTenant, json: Json = False) -> None:
    """A tenant's keys, by their first characters, and when each was used last."""
    from processes.cli import api_keys

    perform(api_keys.show_all(tenant), json=json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Of the key, not the key itself.")],
    tenant: OfTenant,
    json: Json = False,
) -> None:
    """Let nobody in by a key from now on."""
    from processes.cli import api_keys

    perform(api_keys.revoke(tenant, key), json=json)
