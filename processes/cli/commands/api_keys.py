"""Commands for the API keys of tenants' programs."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli import Json, perform

app = typer.Typer(help="Keys with which programs call the HTTP API.", no_args_is_help=True)

OfTenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="The tenant of the key.")]


@app.command()
def create(
    tenant: OfTenant,
    name: Annotated[str, typer.Option(help="The purpose of the key.")],
    json: Json = False,
) -> None:
    """Create a key, and show it once."""
    from processes.cli import api_keys

    perform(api_keys.create(tenant, name), json=json)


@app.command("list")
def show_all(tenant: OfTenant, json: Json = False) -> None:
    """List a tenant's keys by their first characters, with their last use."""
    from processes.cli import api_keys

    perform(api_keys.show_all(tenant), json=json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, not the key.")],
    tenant: OfTenant,
    json: Json = False,
) -> None:
    """Revoke a key: requests with it are rejected from now on."""
    from processes.cli import api_keys

    perform(api_keys.revoke(tenant, key), json=json)
