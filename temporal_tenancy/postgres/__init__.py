"""Tenant and platform sessions in PostgreSQL, and the checks that keep them in their scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.postgres._acting import acting_for
    from temporal_tenancy.postgres.branch import configure_branch, upgrade_library
    from temporal_tenancy.postgres.connections import answers, connect
    from temporal_tenancy.postgres.database_errors import (
        DatabaseProblem,
        DatabaseUnreachable,
        ExcessRights,
        InstallationElsewhere,
        LockHeld,
        MigrationsBehind,
        RowsHidden,
    )
    from temporal_tenancy.postgres.installation import (
        Installation,
        Roles,
        current_installation,
    )
    from temporal_tenancy.postgres.migrations import migrate, run_migrations
    from temporal_tenancy.postgres.moving import drop_views, move
    from temporal_tenancy.postgres.revisions import newest_revisions
    from temporal_tenancy.postgres.roles import TENANT_ROLE
    from temporal_tenancy.postgres.row_security import protect_sql, protect_statements, repairing
    from temporal_tenancy.postgres.sql_directory import (
        DirectoryAmbiguous,
        DirectoryUnreadable,
        SqlTenantDirectory,
    )
    from temporal_tenancy.postgres.transactions import tenant_transaction
    from temporal_tenancy.postgres.uuids import new_uuid

__all__ = [
    "TENANT_ROLE",
    "DatabaseProblem",
    "DatabaseUnreachable",
    "DirectoryAmbiguous",
    "DirectoryUnreadable",
    "ExcessRights",
    "Installation",
    "InstallationElsewhere",
    "LockHeld",
    "MigrationsBehind",
    "Roles",
    "RowsHidden",
    "SqlTenantDirectory",
    "acting_for",
    "answers",
    "configure_branch",
    "connect",
    "current_installation",
    "drop_views",
    "migrate",
    "move",
    "new_uuid",
    "newest_revisions",
    "protect_sql",
    "protect_statements",
    "repairing",
    "run_migrations",
    "tenant_transaction",
    "upgrade_library",
]

_WHERE: Final = {
    "TENANT_ROLE": "roles",
    "DatabaseProblem": "database_errors",
    "DatabaseUnreachable": "database_errors",
    "DirectoryAmbiguous": "sql_directory",
    "DirectoryUnreadable": "sql_directory",
    "ExcessRights": "database_errors",
    "Installation": "installation",
    "InstallationElsewhere": "database_errors",
    "LockHeld": "database_errors",
    "MigrationsBehind": "database_errors",
    "Roles": "installation",
    "RowsHidden": "database_errors",
    "SqlTenantDirectory": "sql_directory",
    "acting_for": "_acting",
    "answers": "connections",
    "configure_branch": "branch",
    "connect": "connections",
    "current_installation": "installation",
    "drop_views": "moving",
    "migrate": "migrations",
    "move": "moving",
    "new_uuid": "uuids",
    "newest_revisions": "revisions",
    "protect_sql": "row_security",
    "protect_statements": "row_security",
    "repairing": "row_security",
    "run_migrations": "migrations",
    "tenant_transaction": "transactions",
    "upgrade_library": "branch",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
