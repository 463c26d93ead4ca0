"""Whether a database is as a process needs it that is about to work on it."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.lint.catalogue import refuse_excess_rights
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.migrations import refuse_pending


def check_database(url: str, application: Sequence[MigrationEnvironment] = ()) -> None:
    """Checks a database as the role of `url` sees it; it blocks, for a second or so.

    `application` are the environments of the application's own migrations.

    Raises:
        ConfigurationError: `url` is not one of PostgreSQL.
        DatabaseUnreachable: the database does not answer, or not to this role.
        MigrationsBehind: it lacks migrations.
        ExcessRights: the role may do more than its part.
    """
    refuse_pending(url, (*LIBRARY, *application))
    with connect(url) as connection:
        refuse_excess_rights(connection)
