"""Arguments and options that several groups of commands share."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

NOT_BEFORE: Final[Any] = typer.Option(
    metavar="TIME", help='Not before, such as "2026-12-24T18:00:00Z".'
)

JobName = Annotated[str, typer.Argument(metavar="JOB", help='Such as "billing.cycle".')]
TenantName = Annotated[str, typer.Argument(metavar="TENANT", help='A tenant id, such as "ua".')]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
"""The option `--json`."""
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")]
"""The option `--wait`."""
Tick = Annotated[str | None, typer.Option(metavar="KEY", help='A period, such as "2013-04".')]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Recorded with it.")]
