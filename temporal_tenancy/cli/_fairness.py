"""Warns a person who starts work that one tenant's backlog may delay the other tenants."""

from __future__ import annotations

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli.answers import say
from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.control_plane.server_checks import last_fairness
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem


async def warn_where_off(database: Database, namespace: str) -> None:
    """Warns if fairness was off at the last check; does not check again."""
    check = await last_fairness(database, namespace)
    if check is not None and not check.holds:
        say(with_hint(check.off_sentence))


async def warn_where_known_off(namespace: str) -> None:
    """Like `warn_where_off`, for commands that work without a database."""
    try:
        async with control_plane() as database:
            await warn_where_off(database, namespace)
    except (NotReachable, DatabaseProblem):
        return
