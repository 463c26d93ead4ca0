"""Commands that list, show, replay and discard dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json

app = typer.Typer(
    help="Jobs that failed permanently, and running them again.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID")]
OfTenant = Annotated[str | None, typer.Option(metavar="TENANT", help="Of this tenant only.")]
OfJob = Annotated[str | None, typer.Option(metavar="JOB", help="Of this job only.")]
OfKind = Annotated[str | None, typer.Option(metavar="HASH", help="Of this kind only.")]
OlderThan = Annotated[str | None, typer.Option(metavar="AGE", help='Such as "3d" or "12h".')]
NewerThan = Annotated[str | None, typer.Option(metavar="AGE", help='Such as "90m".')]
OfStatus = Annotated[
    str | None, typer.Option(metavar="STATUS", help="open, replayed, resolved or discarded.")
]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who does it. [default: this user]")]


@app.command("list")
def show_all(
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    status: OfStatus = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1000,
    json: Json = False,
) -> None:
    """List the jobs that failed permanently, the latest first."""
    from temporal_tenancy.cli import dead_letters

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=status,
    )
    perform(dead_letters.show_all(where, limit), json=json)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID")],
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Whose it is.")] = None,
    json: Json = False,
) -> None:
    """Show one, with the input of its job."""
    from temporal_tenancy.cli import dead_letters

    perform(dead_letters.show(letter, tenant), json=json)


@app.command()
def replay(
    ids: Ids = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    status: OfStatus = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Replay one per tenant first, and wait for it.")
    ] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Start jobs again, each in its own tenant, with its own key and input."""
    from temporal_tenancy.cli import dead_letters, replays

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=status,
    )
    perform(replays.start_again(ids or [], where, canary=canary, by=by), json=json)


@app.command()
def discard(
    ids: Ids = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Discard open ones: they are not run again."""
    from temporal_tenancy.cli import dead_letters

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=None,
    )
    perform(dead_letters.discard(ids or [], where, by), json=json)
