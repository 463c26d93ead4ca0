"""Commands that add, change, show, suspend, resume and offboard tenants."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json, Reason, TenantName

app = typer.Typer(help="The tenants, and which of them may run jobs.", no_args_is_help=True)


@app.command()
def add(
    tenant: TenantName,
    name: Annotated[str | None, typer.Option(help="For people.", show_default="the id")] = None,
    plan: Annotated[str, typer.Option(help="Its plan.")] = "standard",
    status: Annotated[str, typer.Option(help="active or trial.")] = "active",
    feature: Annotated[
        list[str] | None, typer.Option(help="A feature beyond the plan's; may be repeated.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="An IANA name.")] = "UTC",
    trial_ends: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The trial's last day, in the tenant's time zone."),
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(help="shared, schema or database.", show_default="as its plan or store says"),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="A prepared store.", show_default="the policy chooses")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Where its rows are to be.", show_default="anywhere")
    ] = None,
    json: Json = False,
) -> None:
    """Add a tenant, in the shared store or in one that is prepared."""
    from temporal_tenancy.cli import tenants

    perform(
        tenants.add(
            tenant,
            name=name,
            plan=plan,
            status=status,
            features=feature or [],
            time_zone=time_zone,
            trial_ends=trial_ends,
            isolation=isolation,
            store=store,
            region=region,
        ),
        json=json,
    )


@app.command("set")
def change(
    tenant: TenantName,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    plan: Annotated[str | None, typer.Option(help="Its plan.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="An IANA name.")] = None,
    add_feature: Annotated[
        list[str] | None, typer.Option(help="A feature beyond the plan's; may be repeated.")
    ] = None,
    remove_feature: Annotated[
        list[str] | None, typer.Option(help="Such a feature to take away; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Change a tenant's name, plan, features or time zone."""
    from temporal_tenancy.cli import tenants

    perform(
        tenants.change(
            tenant,
            name=name,
            plan=plan,
            time_zone=time_zone,
            add_features=add_feature or [],
            remove_features=remove_feature or [],
        ),
        json=json,
    )


@app.command("list")
def show_all(
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS,…", help="Of these only.", show_default="all but deleted"),
    ] = None,
    json: Json = False,
) -> None:
    """List the tenants in order of their ids."""
    from temporal_tenancy.cli import tenants

    perform(tenants.show_all(status), json=json)


@app.command()
def show(tenant: TenantName, json: Json = False) -> None:
    """Show one tenant."""
    from temporal_tenancy.cli import tenants

    perform(tenants.show(tenant), json=json)


@app.command()
def suspend(tenant: TenantName, reason: Reason = None, json: Json = False) -> None:
    """Stop a tenant's jobs within 5 seconds."""
    from temporal_tenancy.cli import tenants

    perform(tenants.suspend(tenant, reason), json=json)


@app.command()
def resume(tenant: TenantName, json: Json = False) -> None:
    """Let a suspended tenant's jobs run again."""
    from temporal_tenancy.cli import tenants

    perform(tenants.resume(tenant), json=json)


@app.command()
def offboard(
    tenant: TenantName,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; it cannot be taken back.")] = False,
    json: Json = False,
) -> None:
    """End a tenant's jobs for good, as the first step of its deletion."""
    from temporal_tenancy.cli import tenants

    perform(tenants.offboard(tenant, reason, confirmed=yes), json=json)
