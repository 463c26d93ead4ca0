"""What waits in the outbox, and whether it is released."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import NOT_BEFORE, Json, Reason, TenantName

app = typer.Typer(help="Jobs that were asked for, and wait.", no_args_is_help=True)

Message = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A message, or else --tenant, --job, --key.")
]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="Whose message it is.")
]
OfJob = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="What the message asks for.")
]
OfKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Of its job.")]


@app.command("list")
def show_all(json: Json = False) -> None:
    """What each tenant has waiting, and why."""
    from temporal_tenancy.cli import outbox

    perform(outbox.show(), json=json)


@app.command()
def pause(tenant: TenantName, reason: Reason = None, json: Json = False) -> None:
    """Release none of a tenant's messages; what runs goes on."""
    from temporal_tenancy.cli import outbox

    perform(outbox.pause(tenant, reason), json=json)


@app.command()
def resume(tenant: TenantName, json: Json = False) -> None:
    """Release a tenant's messages again."""
    from temporal_tenancy.cli import outbox

    perform(outbox.resume(tenant), json=json)


@app.command()
def cap(
    tenant: TenantName,
    how_many: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, help="[default: what its plan says]")
    ] = None,
    json: Json = False,
) -> None:
    """Let so many of a tenant's jobs run at once."""
    from temporal_tenancy.cli import outbox

    perform(outbox.cap(tenant, how_many), json=json)


@app.command()
def cancel(
    message: Message = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    key: OfKey = None,
    json: Json = False,
) -> None:
    """Take a waiting message back, as if it had not been asked for."""
    from temporal_tenancy.cli import outbox

    perform(outbox.cancel(message, tenant=tenant, job=job, key=key), json=json)


@app.command()
def reschedule(
    at: Annotated[str, NOT_BEFORE],
    message: Message = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    key: OfKey = None,
    json: Json = False,
) -> None:
    """Let a waiting message start at another time."""
    from temporal_tenancy.cli import outbox

    perform(outbox.reschedule(message, tenant=tenant, job=job, key=key, at=at), json=json)
