"""Telling whoever starts work that backlogs are not served fairly."""

from __future__ import annotations

from temporal_tenancy.cli.answers import say
from temporal_tenancy.cli.not_reachable import NotReachable
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.cli.server_access import control_plane
from temporal_tenancy.control_plane.server_checks import last_fairness
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem


async def warn_where_off(database: Database, namespace: str) -> None:
    """Says so where fairness was off when it was last tried. Nothing is tried for this."""
    check = await last_fairness(database, namespace)
    if check is not None and not check.holds:
        say(with_hint(check.off_sentence))


async def warn_where_known_off(namespace: str) -> None:
    """As `warn_where_off`, for a command that does without the database."""
    try:
        async with control_plane() as database:
            await warn_where_off(database, namespace)
    except (NotReachable, DatabaseProblem):
        return
