"""Commands that show and change plans."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json

app = typer.Typer(help="The plans, and what each gives its tenants.", no_args_is_help=True)


@app.command("list")
def show_all(json: Json = False) -> None:
    """List the plans; an empty cell leaves it to each process."""
    from temporal_tenancy.cli import plans

    perform(plans.show_all(), json=json)


@app.command("set")
def change(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="As the list has it.")],
    weight: Annotated[
        float | None, typer.Option(help="Its tenants' weight in backlogs, 0.001 to 1000.")
    ] = None,
    cap: Annotated[
        str | None, typer.Option(metavar="N", help="Jobs of a tenant at once, or none.")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Of a process's connections, what a tenant may use, or none.",
        ),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Calls in a second by a name, such as http=20."),
    ] = None,
    statement_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="For one statement, or none.")
    ] = None,
    lock_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="Waiting for one lock, or none.")
    ] = None,
    idle_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="Between two statements, or none.")
    ] = None,
    transaction_timeout: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="For a transaction, or none.")
    ] = None,
    json: Json = False,
) -> None:
    """Change what a plan gives its tenants; none leaves it to each process."""
    from temporal_tenancy.cli import plans

    perform(
        plans.change(
            plan,
            weight=weight,
            cap=cap,
            share=share,
            rates=rate or (),
            timeouts={
                "statement_timeout": statement_timeout,
                "lock_timeout": lock_timeout,
                "idle_timeout": idle_timeout,
                "transaction_timeout": transaction_timeout,
            },
        ),
        json=json,
    )
