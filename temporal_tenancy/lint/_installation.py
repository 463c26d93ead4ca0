"""Checks that a database is ready for a process to use."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.lint.catalogue import refuse_excess_rights
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import refuse_pending
from temporal_tenancy.postgres.secret_texts import hidden


def check_database(
    url: str,
    application: Sequence[MigrationEnvironment] = (),
    *,
    installation: Installation | None = None,
) -> None:
    """Checks a database's migrations and the rights of `url`'s role.

    It blocks for about a second.

    Args:
        url: URL of the database, with a runtime role.
        application: the environments of the application's own migrations.
        installation: where the library's tables are, as for `migrate()`.

    Raises:
        ConfigurationError: `url` is not a PostgreSQL URL.
        InstallationElsewhere: the library's tables are in another schema than the installation's.
        DatabaseUnreachable: the database did not answer, or refused the role.
        MigrationsBehind: the database lacks migrations.
        ExcessRights: the role has more rights than it needs.
    """
    url = hidden(url)
    refuse_pending(url, (*LIBRARY, *application), installation=installation)
    with connect(url) as connection:
        refuse_excess_rights(connection)
