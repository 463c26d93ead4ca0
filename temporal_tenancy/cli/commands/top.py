"""The command that shows what happens now."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from temporal_tenancy.cli.answers import out, perform
from temporal_tenancy.cli.commands.options import Json

app = typer.Typer()


@app.command()
def top(
    every: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two looks, on a terminal.")
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    json: Json = False,
) -> None:
    """Show queues, fan-outs under way, noisy tenants and workers, live until Ctrl-C."""
    from temporal_tenancy.cli import top
    from temporal_tenancy.cli.program import current_application
    from temporal_tenancy.postgres.silent_servers import watching_for_silence

    if json or once or not out.is_terminal:
        perform(top.once(), json=json)
        return
    try:
        current_application()  # loads it, which registers its jobs
        with watching_for_silence():
            asyncio.run(top.watch(every))
    except KeyboardInterrupt:
        return
