"""Commands that release a worker version, to some tenants or to all, and take it back."""

from __future__ import annotations

from typing import Annotated

import typer

from temporal_tenancy.cli.answers import perform
from temporal_tenancy.cli.commands.options import Json, Reason

app = typer.Typer(
    help="Versions of workers, and which tenants get them first.", no_args_is_help=True
)

Build = Annotated[str, typer.Argument(metavar="BUILD", help="The build id of a worker version.")]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The worker deployment.", show_default="the namespace's only one"
    ),
]


@app.command("list")
def show_all(deployment: Name = None, json: Json = False) -> None:
    """Show the versions of the workers, and the releases of each."""
    from temporal_tenancy.cli import deployments

    perform(deployments.show_all(deployment), json=json)


@app.command()
def ramp(
    build: Build,
    tenants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Release it to these tenants.")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help='Release it to a share of all tenants: "1%".'),
    ] = None,
    max_failures: Annotated[
        str,
        typer.Option(
            metavar="PERCENT",
            help="Halt it if runs of so many more of its tenants fail than on the other versions.",
        ),
    ] = "10%",
    max_slowdown: Annotated[
        float,
        typer.Option(
            metavar="TIMES", help="Halt it if its runs take so many times as long as the others."
        ),
    ] = 3.0,
    min_runs: Annotated[
        int, typer.Option(metavar="N", help="How many of its runs are compared at least.")
    ] = 5,
    min_tenants: Annotated[
        int,
        typer.Option(
            metavar="N", help="Of how many tenants runs must fail at least before it is halted."
        ),
    ] = 2,
    deployment: Name = None,
    json: Json = False,
) -> None:
    """Start new runs of some tenants on a version; all others stay on the current one.

    The release halts itself if it is worse than its bounds.
    """
    from temporal_tenancy.cli import deployments

    perform(
        deployments.ramp(
            build,
            tenants=tenants,
            share=share,
            max_failures=max_failures,
            max_slowdown=max_slowdown,
            min_runs=min_runs,
            min_tenants=min_tenants,
            deployment=deployment,
        ),
        json=json,
    )


@app.command()
def promote(build: Build, deployment: Name = None, json: Json = False) -> None:
    """Make a version the current one: new runs of all tenants start on it.

    Releases of older versions end.
    """
    from temporal_tenancy.cli import deployments

    perform(deployments.promote(build, deployment=deployment), json=json)


@app.command()
def rollback(
    build: Build,
    terminate: Annotated[
        bool,
        typer.Option(
            "--terminate",
            help="Also terminate the tenants' runs that are still on it, so that they can be "
            "caught up or replayed on the current version.",
        ),
    ] = False,
    reason: Reason = None,
    deployment: Name = None,
    json: Json = False,
) -> None:
    """End the release of a version. If it is the current one, go back to the one before.

    A version that was halted or rolled back itself is passed over.
    """
    from temporal_tenancy.cli import deployments

    perform(
        deployments.rollback(build, terminate=terminate, reason=reason, deployment=deployment),
        json=json,
    )
