"""Integrations: partners' APIs whose records are copied."""

from __future__ import annotations

from typing import Annotated

import typer

from processes.cli.commands.options import Limit, OfTenant
from temporal_tenancy.cli import Json, Wait, perform

app = typer.Typer(help="Partners' APIs whose records are copied.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help='Such as "crm".')]


@app.command("set")
def put(
    name: Name,
    tenant: OfTenant,
    url: Annotated[str, typer.Option(metavar="URL", help="Of the partner's records; https.")],
    credential_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Its bearer token, in a file, or on standard input with "-". [default: as it is]',
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add an integration, or change it."""
    from processes.cli import integrations

    perform(
        integrations.put(name, tenant=tenant, url=url, credential_file=credential_file), json=json
    )


@app.command("list")
def show_all(tenant: OfTenant, limit: Limit = 100, json: Json = False) -> None:
    """List a tenant's integrations, without their credentials."""
    from processes.cli import integrations

    perform(integrations.show_all(tenant=tenant, limit=limit), json=json)


@app.command()
def sync(name: Name, tenant: OfTenant, wait: Wait = False, json: Json = False) -> None:
    """Copy the partner's records, from where the last sync stopped."""
    from processes.cli import integrations

    perform(integrations.sync(name, tenant=tenant, wait=wait, quiet=json), json=json)


@app.command()
def remove(name: Name, tenant: OfTenant, json: Json = False) -> None:
    """Remove an integration with its records and its credential."""
    from processes.cli import integrations

    perform(integrations.remove(name, tenant=tenant), json=json)
