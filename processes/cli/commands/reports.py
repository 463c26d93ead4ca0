"""Reports on a tenant's data."""

from __future__ import annotations

from typing import Annotated

import typer

from processes.cli.commands.options import Limit, OfTenant
from temporal_tenancy.cli import Json, Wait, perform

app = typer.Typer(help="Reports on a tenant's data.", no_args_is_help=True)


@app.command()
def start(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="usage.by_route or invoices.by_month.")
    ],
    tenant: OfTenant,
    input_json: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="JSON",
            help="""Its days or months, such as '{"first": "2013-04-01", "last": "2013-04-30"}'.""",
        ),
    ] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Request a report."""
    from processes.cli import reports

    perform(
        reports.start(kind, tenant=tenant, input_json=input_json, wait=wait, quiet=json), json=json
    )


@app.command("list")
def show_all(tenant: OfTenant, limit: Limit = 20, json: Json = False) -> None:
    """List a tenant's reports, the newest first."""
    from processes.cli import reports

    perform(reports.show_all(tenant=tenant, limit=limit), json=json)


@app.command()
def show(
    report_id: Annotated[str, typer.Argument(metavar="ID", help="As start has answered it.")],
    tenant: OfTenant,
    json: Json = False,
) -> None:
    """Show a report with its result."""
    from processes.cli import reports

    perform(reports.show(report_id, tenant=tenant), json=json)
