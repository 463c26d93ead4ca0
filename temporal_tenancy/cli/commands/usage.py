"""The command that shows what tenants and jobs have used."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform, print_text
from temporal_tenancy.cli.commands.options import Json

app = typer.Typer()


class By(StrEnum):
    """What a row is for."""

    TENANT = "tenant"
    JOB = "job"


@app.command()
def usage(
    tenant: Annotated[
        str | None,
        typer.Option(metavar="TENANT", help="Only this one's; \"platform\" for the platform's."),
    ] = None,
    by: Annotated[By, typer.Option(help="What a row is for.")] = By.TENANT,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A day or a time. [default: 30 days before --until]"),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="A day or a time. [default: now]")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    json: Json = False,
) -> None:
    """Show the seconds that each tenant or job has used of workers and database."""
    from temporal_tenancy.cli import usage

    if csv and json:
        raise typer.BadParameter("choose one of --csv and --json.", param_hint="--csv")
    if csv:
        print_text(usage.as_csv(tenant, by.value, since=since, until=until))
        return
    perform(usage.show(tenant, by.value, since=since, until=until), json=json)
