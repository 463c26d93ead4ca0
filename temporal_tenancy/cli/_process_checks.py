"""The doctor's check of the processes that run: whether one is older than what is in force."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import control_plane, environments
from temporal_tenancy.cli._verdicts import Check, ok, skipped, warning
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.control_plane.running_processes import (
    OutOfDate,
    RunningProcess,
    out_of_date,
    running_processes,
)
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.words import number, when
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.revisions import applied_revisions

NAME: Final = "running processes"
SHOWN: Final = 5  # processes in a message


async def process_checks() -> list[Check]:
    """Checks that no worker, relay or web process is older than what is in force."""
    known = environments(current_application())
    try:
        async with (
            control_plane() as database,
            database.platform_session("look for the running processes") as session,
        ):
            running = await running_processes(session)
            applied = await applied_revisions(session, known)
    except (NotReachable, DatabaseProblem, ConfigurationError, SQLAlchemyError):
        return skipped([NAME], "the processes cannot be read.")
    if not running:
        return skipped([NAME], "none has said that it runs.")
    found = await asyncio.to_thread(out_of_date, running, applied, known)
    return [_verdict(running, found)]


def _verdict(running: Sequence[RunningProcess], found: Sequence[OutOfDate]) -> Check:
    if found:
        sentences = [_sentence(each) for each in found[:SHOWN]]
        more = len(found) - SHOWN
        listed = [*sentences, *([f"and {more:,} more."] if more > 0 else [])]
        return warning(NAME, " ".join([*listed, "Restart each."]))
    kinds = Counter(process.kind for process in running)
    counts = ", ".join(f"{count:,} {printable(kind)}" for kind, count in sorted(kinds.items()))
    return ok(
        NAME,
        f"{number(len(running), 'process has', 'processes have')} the configuration and the "
        f"migrations in force: {counts}.{_versions(running)}",
    )


def _versions(running: Sequence[RunningProcess]) -> str:
    versions = sorted({printable(process.version) for process in running} - {""})
    more = f" and {len(versions) - SHOWN:,} more" if len(versions) > SHOWN else ""
    name = "Version" if len(versions) == 1 else "Versions"
    return f" {name}: {', '.join(versions[:SHOWN])}{more}." if versions else ""


def _sentence(old: OutOfDate) -> str:
    process = old.process
    who = f"{printable(process.kind)} {printable(process.identity)}"
    if old.what == "configuration":
        return (
            f"{who}, started at {when(process.started_at)}, has another configuration than "
            f"{printable(old.by)}, which was started later."
        )
    return (
        f"{who} knows the {printable(old.by)} up to {printable(old.has)}, and the database is at "
        f"{printable(old.in_force)}."
    )
