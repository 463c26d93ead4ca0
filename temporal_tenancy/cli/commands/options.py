"""Arguments and options that the commands of several groups take."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

NOT_BEFORE: Final[Any] = typer.Option(metavar="TIME", help='Not before, as "2026-12-24T18:00:00Z".')

JobName = Annotated[str, typer.Argument(metavar="JOB", help='Such as "billing.cycle".')]
TenantName = Annotated[str, typer.Argument(metavar="TENANT", help='A tenant id, such as "ua".')]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until it has ended.")]
Tick = Annotated[str | None, typer.Option(metavar="KEY", help='A period, such as "2013-04".')]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Kept beside it.")]
