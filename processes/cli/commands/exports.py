"""Exports of a tenant's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from processes.cli.commands.options import Limit, OfTenant
from temporal_tenancy.cli import Json, Wait, perform

app = typer.Typer(help="Files with a tenant's data.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As start has answered it.")]


@app.command()
def start(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="contacts, invoices or usage_events.")
    ],
    tenant: OfTenant,
    format: Annotated[str, typer.Option(metavar="FORMAT", help="csv or parquet.")] = "csv",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Request a file with a dataset; it is kept for a week."""
    from processes.cli import exports

    perform(exports.start(dataset, tenant=tenant, format=format, wait=wait, quiet=json), json=json)


@app.command("list")
def show_all(tenant: OfTenant, limit: Limit = 20, json: Json = False) -> None:
    """List a tenant's exports, the newest first."""
    from processes.cli import exports

    perform(exports.show_all(tenant=tenant, limit=limit), json=json)


@app.command()
def show(export_id: Id, tenant: OfTenant, json: Json = False) -> None:
    """Show an export's status and size."""
    from processes.cli import exports

    perform(exports.show(export_id, tenant=tenant), json=json)


@app.command()
def download(
    export_id: Id,
    tenant: OfTenant,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to save the file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    json: Json = False,
) -> None:
    """Save an export's file, whole or not at all."""
    from processes.cli import exports

    perform(exports.download(export_id, tenant=tenant, to=to, force=force), json=json)
