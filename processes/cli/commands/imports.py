"""Imports of contacts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from processes.cli.commands.options import Limit, OfTenant
from temporal_tenancy.cli import Json, Wait, perform

ImportId = Annotated[str, typer.Argument(metavar="ID", help="As start has answered it.")]
OfImport = Annotated[str, typer.Option(metavar="TENANT", help="Whose import it is.")]

app = typer.Typer(help="Contacts from a CSV file.", no_args_is_help=True)


@app.command()
def start(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="A header, then rows."
        ),
    ],
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose contacts they are.")],
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the file's text.", show_default="as its bytes say"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what it would do, and write no contact.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(metavar="ROWS", help="Rows a transaction.", show_default="5000")
    ] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Import a file of contacts, by their e-mail addresses."""
    from processes.cli import imports

    perform(
        imports.start(
            file,
            tenant=tenant,
            encoding=encoding,
            dry_run=dry_run,
            batch_size=batch_size,
            wait=wait,
            quiet=json,
        ),
        json=json,
    )


@app.command("list")
def show_all(tenant: OfTenant, limit: Limit = 20, json: Json = False) -> None:
    """List a tenant's imports, the newest first."""
    from processes.cli import imports

    perform(imports.show_all(tenant=tenant, limit=limit), json=json)


@app.command()
def show(
    import_id: ImportId,
    tenant: OfImport,
    json: Json = False,
) -> None:
    """How far an import is, or what it came to."""
    from processes.cli import imports

    perform(imports.show(import_id, tenant=tenant), json=json)


@app.command()
def errors(
    import_id: ImportId,
    tenant: OfImport,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to save the rows.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    json: Json = False,
) -> None:
    """Save the rejected rows with line numbers and reasons, as CSV."""
    from processes.cli import imports

    perform(imports.errors(import_id, tenant=tenant, to=to, force=force), json=json)


@app.command()
def cancel(
    import_id: ImportId,
    tenant: OfImport,
    json: Json = False,
) -> None:
    """Cancel an import; it ends after the batch being written, and imported rows stay."""
    from processes.cli import imports

    perform(imports.cancel(import_id, tenant=tenant), json=json)
