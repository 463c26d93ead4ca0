"""Runs every check and shows its verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

from rich.console import Console, ConsoleOptions
from rich.text import Text

from temporal_tenancy.cli._database_checks import database_checks
from temporal_tenancy.cli._layout import INDENT, table_lines, wrapped
from temporal_tenancy.cli._probe_checks import PATIENCE, probe_checks
from temporal_tenancy.cli._process_checks import process_checks
from temporal_tenancy.cli._shared_state_checks import shared_state_checks
from temporal_tenancy.cli._spinners import waiting_for
from temporal_tenancy.cli._store_checks import store_checks
from temporal_tenancy.cli._temporal_checks import temporal_checks
from temporal_tenancy.cli._tenant_checks import tenant_checks
from temporal_tenancy.cli._tenant_database_checks import tenant_database_checks
from temporal_tenancy.cli._verdicts import Check, Verdict
from temporal_tenancy.cli.answers import Answer, Problem, lines
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.words import number

STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "dim",
}


async def examine(patience: timedelta = PATIENCE) -> Answer:
    """Runs every check, even after one has failed.

    `patience` is how long a relay, and then the workers, have to answer the probe. A try of the
    fairness probe has three times as long.
    """
    temporal, answers = await temporal_checks(patience)
    with waiting_for("A relay and the workers answer a probe"):
        probes = await probe_checks(patience, temporal_answers=answers)
    with waiting_for("The database is checked with the login of each role"):
        database = [
            *await asyncio.to_thread(database_checks),
            *await store_checks(),
            *await shared_state_checks(),
            *await tenant_checks(),
            *await tenant_database_checks(),
            *await process_checks(),
        ]
    checks = [*temporal, *probes, *database]
    count = Counter(check.verdict for check in checks)
    bad = [check.name for check in checks if check.verdict is Verdict.FAILED]
    problem = Problem("ChecksFailed", f"{len(bad)} of {len(checks)}: {', '.join(bad)}.")
    return Answer(
        {
            "ok": not bad,
            "counts": {str(verdict): count[verdict] for verdict in Verdict},
            "checks": [asdict(check) for check in checks],
        },
        lines(_Shown(checks), None if bad else _ending(count[Verdict.WARNING])),
        problem if bad else None,
    )


def _ending(warnings: int) -> str:
    if not warnings:
        return "All is well."
    return f"Nothing failed. {number(warnings, 'warning is', 'warnings are')} worth a look."


@dataclass(frozen=True)
class _Shown:
    """The checks in columns; what a message lists stands below its check, a line each."""

    checks: Sequence[Check]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        messages = [check.message.splitlines() or [""] for check in self.checks]
        rows = [
            (check.verdict, check.name, printable(message[0]))
            for check, message in zip(self.checks, messages, strict=True)
        ]
        columns = table_lines([("", "", ""), *rows], options.max_width)[1:]
        for check, message, beside in zip(self.checks, messages, columns, strict=True):
            first, *more = map(_line, beside)
            first.stylize(STYLES[check.verdict], 0, len(check.verdict))
            yield from (first, *more)
            for listed in message[1:]:
                lines = wrapped([printable(listed)], options.max_width - 2 * INDENT)
                yield from (
                    _line(f"{' ' * INDENT * (2 if i else 1)}{line}") for i, line in enumerate(lines)
                )


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ignore")
