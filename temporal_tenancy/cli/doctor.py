"""Runs every check and shows its verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from rich.table import Table
from rich.text import Text

from temporal_tenancy.cli._database_checks import database_checks
from temporal_tenancy.cli._probe_checks import PATIENCE, probe_checks
from temporal_tenancy.cli._temporal_checks import temporal_checks
from temporal_tenancy.cli._tenant_checks import tenant_checks
from temporal_tenancy.cli._verdicts import Verdict
from temporal_tenancy.cli.answers import Answer, Problem, lines

STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "dim",
}


async def examine(patience: timedelta = PATIENCE) -> Answer:
    """Runs every check, even after one has failed.

    `patience` is how long a relay, and then the workers, have to answer the probe.
    """
    checks = [
        *await temporal_checks(),
        *await probe_checks(patience),
        *await asyncio.to_thread(database_checks),
        *await tenant_checks(),
    ]
    count = Counter(check.verdict for check in checks)
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in range(3):
        table.add_column(overflow="fold", no_wrap=column < 2)
    for check in checks:
        table.add_row(Text(check.verdict, STYLES[check.verdict]), check.name, check.message)
    bad = [check.name for check in checks if check.verdict is Verdict.FAILED]
    problem = Problem("ChecksFailed", f"{len(bad)} of {len(checks)}: {', '.join(bad)}.")
    return Answer(
        {
            "ok": not bad,
            "counts": {str(verdict): count[verdict] for verdict in Verdict},
            "checks": [asdict(check) for check in checks],
        },
        lines(table, None if bad else "All is well."),
        problem if bad else None,
    )
