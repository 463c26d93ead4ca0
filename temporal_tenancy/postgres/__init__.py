"""Tenant and platform sessions in PostgreSQL, and the checks that keep them in their scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.postgres._acting import acting_for
    from temporal_tenancy.postgres.connections import answers, connect
    from temporal_tenancy.postgres.database_errors import (
        DatabaseProblem,
        DatabaseUnreachable,
        ExcessRights,
        MigrationsBehind,
    )
    from temporal_tenancy.postgres.migrations import migrate, run_migrations
    from temporal_tenancy.postgres.roles import TENANT_ROLE
    from temporal_tenancy.postgres.row_security import protect_sql, protect_statements
    from temporal_tenancy.postgres.transactions import tenant_transaction

__all__ = [
    "TENANT_ROLE",
    "DatabaseProblem",
    "DatabaseUnreachable",
    "ExcessRights",
    "MigrationsBehind",
    "acting_for",
    "answers",
    "connect",
    "migrate",
    "protect_sql",
    "protect_statements",
    "run_migrations",
    "tenant_transaction",
]

_WHERE: Final = {
    "TENANT_ROLE": "roles",
    "DatabaseProblem": "database_errors",
    "DatabaseUnreachable": "database_errors",
    "ExcessRights": "database_errors",
    "MigrationsBehind": "database_errors",
    "acting_for": "_acting",
    "answers": "connections",
    "connect": "connections",
    "migrate": "migrations",
    "protect_sql": "row_security",
    "protect_statements": "row_security",
    "run_migrations": "migrations",
    "tenant_transaction": "transactions",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
