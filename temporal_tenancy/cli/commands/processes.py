"""Commands that run the application's workers and relays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Identity = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its identity in Temporal. [default: pid@host]")
]
HealthHost = Annotated[str, typer.Option(metavar="HOST", help="Where --health-port listens.")]
HealthPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="The port of /healthz and /readyz; 0: any free port. [default: none]",
    ),
]
ReadyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="A JSON file to write when ready for work."),
]
DrainDelay = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="After SIGTERM: for /readyz to be false before the work ends.",
    ),
]


@app.command()
def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUEUE", help="A queue to serve; may be repeated. [default: the application's]"
        ),
    ] = None,
    max_activities: Annotated[
        int, typer.Option(min=1, metavar="N", help="Concurrent activities per queue.")
    ] = 100,
    grace: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="For activities to finish at shutdown."),
    ] = 30.0,
    health_host: HealthHost = "127.0.0.1",
    health_port: HealthPort = None,
    identity: Identity = None,
    ready_file: ReadyFile = None,
    drain_delay: DrainDelay = 1.0,
    deployment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Turns on worker versioning: the name that all versions of these workers share.",
        ),
    ] = None,
    build_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="With --deployment: the version of this code."),
    ] = None,
) -> None:
    """Run the application's jobs until SIGTERM or Ctrl-C, then finish the work in progress."""
    from temporal_tenancy.cli import processes

    processes.work(
        queue or [],
        max_activities=max_activities,
        grace=grace,
        process=processes.ProcessOptions(
            identity, health_host, health_port, ready_file, drain_delay
        ),
        deployment=deployment,
        build_id=build_id,
    )


@app.command()
def relay(
    health_host: HealthHost = "127.0.0.1",
    health_port: HealthPort = None,
    identity: Identity = None,
    ready_file: ReadyFile = None,
    drain_delay: DrainDelay = 1.0,
    build_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The version of this code, as of its workers."),
    ] = None,
) -> None:
    """Start the jobs that the outbox has messages for, until SIGTERM or Ctrl-C."""
    from temporal_tenancy.cli import processes

    processes.relay(
        processes.ProcessOptions(identity, health_host, health_port, ready_file, drain_delay),
        build_id=build_id,
    )
