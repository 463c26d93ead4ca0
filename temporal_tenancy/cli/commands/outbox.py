"""Commands that show, release and cancel messages in the outbox."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import NOT_BEFORE, Json, Reason, TenantName

app = typer.Typer(help="Jobs that were requested and wait.", no_args_is_help=True)

Message = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A message, or else --tenant, --job, --key.")
]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="Whose message it is.")
]
OfJob = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="The job that the message requests.")
]
OfKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Key of the job.")]


@app.command("list")
def show_all(
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this one's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many messages.")] = 20,
    json: Json = False,
) -> None:
    """Show each tenant's waiting messages, why they wait, and their ids."""
    from temporal_tenancy.cli import outbox

    perform(outbox.show(tenant, limit), json=json)


@app.command()
def pause(tenant: TenantName, reason: Reason = None, json: Json = False) -> None:
    """Stop releasing a tenant's messages; running jobs continue."""
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
        int | None, typer.Argument(metavar="[N]", min=1, show_default="the plan's cap")
    ] = None,
    json: Json = False,
) -> None:
    """Limit how many of a tenant's jobs run at once."""
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
    """Cancel a waiting message, as if it had not been requested."""
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
    """Move a waiting message to another time."""
    from temporal_tenancy.cli import outbox

    perform(outbox.reschedule(message, tenant=tenant, job=job, key=key, at=at), json=json)
