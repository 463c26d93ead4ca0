"""Options that several groups of commands share."""

from __future__ import annotations

from typing import Annotated, Final

import typer

MOST: Final = 1000  # entries of a list

OfTenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose it is.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MOST, help="How many at most.")]
