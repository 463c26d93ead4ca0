"""A lint of the system catalogue: finds whatever could let rows bypass row-level security.

It reads only the system catalogue, which every role may read. It cannot see what code does with the
setting `app.tenant_id`, which any SQL in a tenant's session may change: row-level security based on
a setting stops mistakes, not SQL injection.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from sqlalchemy import CheckConstraint

from temporal_tenancy.control_plane.tables import ControlPlane, DeadLetterRow
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.migration_environment import CONTROL_PLANE, LIBRARY, MigrationEnvironment
from temporal_tenancy.core.tenant_id_types import TenantIdType, declared_type
from temporal_tenancy.lint._checks import (
    COMMON,
    GRANT_CHECKS,
    SERVER_CHECKS,
    STORE_CHECKS,
    TABLE_CHECKS,
)
from temporal_tenancy.lint._code import CODE_CHECKS, FLOW_CHECKS, SETTING_CHECKS
from temporal_tenancy.outbox.tables import RELAY_INDEXES, OutboxData
from temporal_tenancy.postgres.installation import IDENTITY, Installation, Roles
from temporal_tenancy.postgres.role_checks import ROLE_CHECKS, STORE_MARK, Check
from temporal_tenancy.postgres.role_checks import refuse_excess_rights as refuse_excess_rights_of
from temporal_tenancy.postgres.roles import ROLE_LIMITS
from temporal_tenancy.postgres.row_security import ACCESS_POLICY, COLUMN_TYPES, ISOLATION_POLICY
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.store_roles import store_schemas, stores_group
from temporal_tenancy.postgres.tenant_owned import tenant_columns, tenant_tables
from temporal_tenancy.postgres.uuids import UUIDV7

LOGIN_TIMEOUT: Final = 3  # seconds

# The rule of protect() as PostgreSQL prints it, by the type of the column, also of a domain; and
# that of earlier releases, which took every spelling of an id.
_SETTING: Final = "current_setting('app.tenant_id'::text, true)"
_CURRENT: Final = f"NULLIF({_SETTING}, ''::text)"
_CANONICAL: Final = f"""
CASE
    WHEN ({_SETTING} = (({_CURRENT})::{{type}})::text) THEN ({_SETTING})::{{type}}
    ELSE NULL::{{type}}
END"""
_SQL_NAMES: Final = {"varchar": "text", "int8": "bigint", "int4": "integer", "int2": "smallint"}


def _rules() -> Iterator[tuple[str, str, str, str, str]]:
    """Yields the type of a column, that of its ids, the release, and the rule to read and write."""
    for column_type, id_type in COLUMN_TYPES.items():
        base = _SQL_NAMES.get(column_type, column_type)
        for left in ("{column}", f"({{column}})::{base}"):
            if id_type == "text":
                rule = f"({left} = {_CURRENT})"
                yield column_type, id_type, "this", rule, rule
                continue
            canonical = _CANONICAL.replace("{type}", id_type)
            check = f"(({{column}})::text = {_SETTING})"
            # PostgreSQL begins a line with CASE, and leaves no blank before it.
            yield column_type, id_type, "this", f"({left} ={canonical})", check
            rule = f"({left} = ({_CURRENT})::{id_type})"
            yield column_type, id_type, "earlier", rule, rule


_RULES: Final = [list(each) for each in zip(*_rules(), strict=True)]
_RULE_PARAMETERS: Final = ("rule_types", "rule_ids", "rule_releases", "rules", "rule_checks")

# Of the tools that applications migrate with; their programs read them, as Django's runserver does.
_VERSION_TABLES: Final = ("alembic_version", "django_migrations")

# The platform's indexes on dead letters, which span tenants.
_LETTERS_INDEXES: Final = (
    "ix_dead_letters_status_failed_at",
    "ix_dead_letters_fingerprint_status",
    "ix_dead_letters_untold",
)

# The tenant role's rights on the library's tables: those that tenants' code needs, and none on
# columns that the platform's code relies on. Workers of the previous release insert the id of a
# message; DELETE erases old events and inputs.
_GRANTS: Final = {
    "outbox_messages": {
        "SELECT": (),
        "DELETE": (),
        "INSERT": (
            *("tenant_id", "id", "job", "key", "payload", "priority", "status", "scheduled_at"),
            *("dequeued_at", "attempts", "last_attempt_at", "lease_until", "completed_at"),
            *("workflow_id", "error_type", "error_message", "correlation_id", "traceparent"),
        ),
        "UPDATE": (
            *("payload", "status", "scheduled_at", "attempts", "last_attempt_at", "lease_until"),
            *("completed_at", "workflow_id", "error_type", "error_message"),
        ),
    },
    "processed_events": {
        "SELECT": (),
        "DELETE": (),
        "INSERT": ("tenant_id", "consumer", "event_id"),
        "UPDATE": ("processed_at",),
    },
    "lock_fences": {
        "SELECT": (),
        "DELETE": (),
        "INSERT": ("tenant_id", "name", "token", "taken_at"),
        "UPDATE": ("token", "taken_at"),
    },
    "dead_letters": {
        "SELECT": (),
        "INSERT": (
            *("tenant_id", "job", "source", "workflow_id", "run_id", "message_id"),
            *("error_type", "message", "fingerprint", "attempts", "failed_at"),
        ),
        "UPDATE": (
            *("source", "run_id", "message_id", "error_type", "message", "fingerprint"),
            *("attempts", "failed_at", "recorded_at", "status", "told_at"),
        ),
    },
}
_GRANTED: Final = [
    f"{table} {privilege} {column}".rstrip()
    for table, privileges in _GRANTS.items()
    for privilege, columns in privileges.items()
    for column in columns or ("",)
]
_TRIGGERS: Final = (
    "outbox_messages key_from_id",
    "outbox_messages tenants_insert",
    "outbox_messages tenants_update",
    "dead_letters tenants_update",
)
# The functions of these triggers, with each run of white space replaced by one blank.
_FUNCTIONS: Final = (
    "refuse_write begin raise insufficient_privilege using message = format( '%s may not write "
    "this to %s: %s', current_user, tg_table_name, tg_argv[0] ); end",
    "key_from_id begin new.key := new.id::text; return new; end",
    "uuidv7 " + " ".join(UUIDV7.split()),
)
_TABLE_CHECKS: Final = [
    f"{table.name} {constraint.name}"
    for metadata in (ControlPlane.metadata, OutboxData.metadata)
    for table in metadata.tables.values()
    for constraint in table.constraints
    if isinstance(constraint, CheckConstraint)
]
# Settings that decide whose rows a session sees, which triggers fire and which code it loads.
_SETTINGS: Final = (
    *("app.tenant_id", "role", "row_security", "session_replication_role", "search_path"),
    *("session_preload_libraries", "local_preload_libraries", "dynamic_library_path"),
    *("lo_compat_privileges", "allow_system_table_mods", "standard_conforming_strings"),
)

# Extensions that only compute: they run no SQL passed to them, and read no files.
_EXTENSIONS: Final = (
    *("plpgsql", "pg_stat_statements", "pg_trgm", "btree_gin", "btree_gist", "citext", "hstore"),
    *("ltree", "unaccent", "fuzzystrmatch", "pgcrypto", "uuid-ossp", "intarray", "cube", "seg"),
    *("earthdistance", "isn", "bloom", "vector"),
)

# Volatile functions without side effects on rows; they only return another value each time.
_HARMLESS: Final = (
    *("gen_random_uuid", "uuidv4", "uuidv7", "random", "random_normal", "nextval"),
    *("clock_timestamp", "timeofday"),
)

CHECKS: Final = (
    *SERVER_CHECKS,
    *ROLE_CHECKS,
    *SETTING_CHECKS,
    *TABLE_CHECKS,
    *CODE_CHECKS,
    *GRANT_CHECKS,
    *FLOW_CHECKS,
    *STORE_CHECKS,
)


@dataclass(frozen=True)
class Finding:
    """A fault in the catalogue that may expose one tenant's rows to another, now or later."""

    check: str  # id of the check that found it
    object: str  # name of the faulty table, role, function, ...
    message: str  # what is wrong, why it matters and what to run, in one to three sentences
    open: bool = False  # only a right too many: row-level security holds in spite of it

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


def lint(
    connection: psycopg.Connection[Any],
    *,
    environments: Sequence[MigrationEnvironment] = (CONTROL_PLANE,),
    allowed: Collection[str] = (),
    installation: Installation | None = None,
    columns: Collection[str] = (),
    declared: TenantIdType | None = None,
) -> list[Finding]:
    """Returns the faults of the database of `connection`; an empty list means that it passes.

    Any role can run it. A table counts as tenant-owned, except the control plane's, if it has a
    column `tenant_id`, one of `columns`, one that `tenant_owned()` has made a class for in this
    process, or one that its policy `tenant_isolation` reads. The columns that policies read count
    for other tables too, if a runtime role has rights on them. The library's tables are those in
    its schema: an application's own table that has the name of one is the application's. It also
    tries to log in without passwords; see `passwordless_logins`.

    Args:
        connection: a connection to the database; see
            `temporal_tenancy.postgres.connections.connect`.
        environments: the migration environments whose version tables runtime roles may read.
        allowed: names of exempt objects: indexes that need not begin with tenant_id, triggers,
            event triggers, extensions, publications, subscriptions, and functions, which may be
            SECURITY DEFINER if they set their search_path.
        installation: where the library's tables are, and the names of the runtime roles; as for
            `migrate()`.
        columns: names of columns that hold a tenant's id, for a process that does not import the
            application's classes.
        declared: the type of the application's tenant ids, which the columns must have; `text`:
            no process declares one. None: the type that this process has declared, if any.

    Raises:
        InstallationElsewhere: the library's tables are in another schema than the installation's.
        psycopg.Error: the connection failed.
    """
    installation = installation or Installation()
    findings = _run(
        connection,
        CHECKS,
        installation,
        environments=environments,
        allowed=allowed,
        columns=columns,
        declared=declared or _declared(),
    )
    return [*findings, *passwordless_logins(connection, installation.roles)]


def _declared() -> TenantIdType | None:
    declared = declared_type()
    return None if declared == "text" else declared


def refuse_excess_rights(connection: psycopg.Connection[Any]) -> None:
    """Raises `ExcessRights` if the logged-in role has more rights than a runtime role needs.

    It has them if it is a superuser, bypasses row-level security, may replicate, owns or may create
    objects, may create roles or databases, or is a member of another role.
    """
    row = connection.execute("select session_user::text").fetchone()
    role = "" if row is None else str(row[0])
    refuse_excess_rights_of(connection, role, through_public=True)


def passwordless_logins(
    connection: psycopg.Connection[Any], roles: Roles | None = None
) -> list[Finding]:
    """Tries to log in without a password as each runtime role, the owner and each superuser.

    Returns a finding for each role that gets in. Each refused login, the expected case, adds a line
    to the server's log.
    """
    names = connection.execute(
        """
        select rolname::text
        from pg_roles
        where rolcanlogin and (
            rolname = any(%s)
            or rolsuper
            or oid = (select datdba from pg_database where datname = current_database())
        )
        order by rolname
        """,
        [list(roles or Roles())],
    ).fetchall()
    info = connection.info
    findings = []
    for (role,) in names:
        try:
            # Empty values keep libpq from reading the environment and the password file.
            psycopg.connect(
                host=info.host,
                port=info.port,
                dbname=info.dbname,
                user=role,
                password="",
                passfile=f"{os.devnull}/none",
                connect_timeout=LOGIN_TIMEOUT,
            ).close()
        except psycopg.errors.ConnectionTimeout:
            break  # it would answer for no other role
        except psycopg.OperationalError:
            continue
        message = (
            f"the role {role} can log in without a password, so anybody who reaches the server "
            "can use it. Require scram-sha-256 in the server's pg_hba.conf."
        )
        findings.append(Finding("passwordless-login", role, message))
    return findings


def _run(
    connection: psycopg.Connection[Any],
    checks: Iterable[Check],
    installation: Installation,
    *,
    environments: Collection[MigrationEnvironment] = (),
    allowed: Collection[str] = (),
    columns: Collection[str] = (),
    declared: TenantIdType | None = None,
) -> list[Finding]:
    roles = installation.roles
    stores = store_schemas(connection, roles)
    shared = [stores_group(roles)] if stores else []
    parameters = {
        "schema": schema_in_use(connection, installation.schema),
        "tenant": installation.roles.tenant,
        "platform": installation.roles.platform,
        "runtime": [*roles, *shared, *stores],
        "stores": STORE_MARK,
        "store_roles": stores,
        "stores_group": stores_group(roles),
        "through_public": True,
        # Tenants' own jobs write dead letters, so that table counts as tenant-owned.
        "control_plane": [
            table.name
            for table in ControlPlane.metadata.tables.values()
            if table.name != DeadLetterRow.__tablename__
        ],
        "library_versions": [one.version_table for one in environments if one in LIBRARY],
        "versions": [
            *(one.version_table for one in environments if one not in LIBRARY),
            *_VERSION_TABLES,
            IDENTITY,
        ],
        "allowed": list(allowed),
        "spanning": [*RELAY_INDEXES, *_LETTERS_INDEXES],
        "opened": _opened(installation.roles),
        "policies": [ISOLATION_POLICY, ACCESS_POLICY],
        "columns": list(dict.fromkeys((*tenant_columns(), *columns))),
        "owned": [f"{table} {column}" for table, column in tenant_tables().items()],
        **dict(zip(_RULE_PARAMETERS, _RULES, strict=True)),
        "declared": declared,
        "granted": _GRANTED,
        "checks": _TABLE_CHECKS,
        "triggers": list(_TRIGGERS),
        "functions": list(_FUNCTIONS),
        "settings": list(_SETTINGS),
        "limits": sorted({name for limits in ROLE_LIMITS.values() for name in limits}),
        "extensions": list(_EXTENSIONS),
        "harmless": list(_HARMLESS),
    }
    # Compiling these long statements, which read few rows, takes several times as long as they do.
    connection.execute("select set_config('jit', 'off', true)")
    findings = []
    for check in checks:
        query = sql.SQL(COMMON) + sql.SQL(check.tables) + sql.SQL(check.query)
        with connection.cursor(row_factory=tuple_row) as cursor:
            for row in cursor.execute(query, parameters):
                name, detail, *more = (printable(str(value)) for value in row)
                message = check.message.format(object=name, detail=detail, more="".join(more))
                findings.append(Finding(check.id, name, message, check.open))
    return findings


def _opened(roles: Roles) -> list[str]:
    """Policies in addition to those of protect(), for roles that need the rows of all tenants."""
    return [
        f"outbox_messages relay_access {roles.relay}",
        f"dead_letters relay_access {roles.relay}",
        f"dead_letters platform_access {roles.platform}",
    ]
