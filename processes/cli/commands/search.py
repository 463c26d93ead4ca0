"""Search in a tenant's data."""

from __future__ import annotations

from typing import Annotated

import typer

from processes.cli.commands.options import OfTenant
from temporal_tenancy.cli import Json, perform

app = typer.Typer()


@app.command()
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help='Words, "a phrase", or, and -without.')
    ],
    tenant: OfTenant,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """Search a tenant's contacts and documents."""
    from processes.cli import search

    perform(search.find(query, tenant=tenant, limit=limit), json=json)
