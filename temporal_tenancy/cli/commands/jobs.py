"""Commands that start jobs and explain runs."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import NOT_BEFORE, JobName, Json, Tick, Wait

app = typer.Typer()

Input = Annotated[
    str | None, typer.Option("--input", metavar="JSON", help="Fields of the job's input.")
]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="Whose job it is.")
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Key of the workflow id.", show_default="the period, or a UUIDv7"
    ),
]


@app.command()
def jobs(json: Json = False) -> None:
    """List every job: queue, priority, feature, schedule and input."""
    from temporal_tenancy.cli import jobs

    perform(jobs.show(), json=json)


@app.command()
def run(
    job: JobName,
    tenant: OfTenant = None,
    input_json: Input = None,
    key: Key = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start one tenant's job, unless it has succeeded or is running."""
    from temporal_tenancy.cli import runs

    perform(
        runs.run(job, tenant=tenant, input_json=input_json, key=key, wait=wait, quiet=json),
        json=json,
    )


@app.command()
def fan_out(
    job: JobName,
    tick: Tick = None,
    where: Annotated[
        str | None, typer.Option(metavar="status=…", help='Such as "status=active,trial".')
    ] = None,
    input_json: Input = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start a job for every tenant, as its schedule does, except those that have succeeded."""
    from temporal_tenancy.cli import fan_outs

    perform(
        fan_outs.fan_out(job, tick=tick, where=where, input_json=input_json, wait=wait, quiet=json),
        json=json,
    )


@app.command()
def explain(
    workflow_id: Annotated[str, typer.Argument(metavar="WORKFLOW_ID")], json: Json = False
) -> None:
    """Explain a run: what it is, its owner, its status, why it failed and what to do."""
    from temporal_tenancy.cli import explanations

    perform(explanations.explain(workflow_id), json=json)


@app.command()
def enqueue(
    job: JobName,
    tenant: OfTenant = None,
    input_json: Input = None,
    key: Key = None,
    at: Annotated[str | None, NOT_BEFORE] = None,
    json: Json = False,
) -> None:
    """Request one tenant's job through the outbox; a relay starts it."""
    from temporal_tenancy.cli import outbox

    perform(outbox.ask(job, tenant=tenant, input_json=input_json, key=key, at=at), json=json)
