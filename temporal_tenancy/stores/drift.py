"""Finds stores whose tables are not those that the migrations make.

What they make is written down when a database has been migrated: they run once more, in a schema
that is dropped again. What a store has is in the system's catalogue, which every role may read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, Installation
from temporal_tenancy.postgres.lock_timeouts import LOCK_TIMEOUT, milliseconds
from temporal_tenancy.postgres.migrations import (
    SET_LOCK_TIMEOUT,
    owners_transaction,
    upgrade_schema,
)
from temporal_tenancy.postgres.revisions import read_lineage
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden

SCRATCH: Final = "temporal_tenancy_declared"  # the schema in which the migrations run once more

_LINES: Final = "with triggers"  # earlier releases wrote down fewer lines, under another target
_TRIGGER: Final = re.compile(r"trigger .+?\.(.+?) CREATE ")
_UUIDV7: Final = re.compile(r"\bdefault \S+\.uuidv7\(\)")  # the library's, before PostgreSQL 18

_TURN: Final = (
    "insert into {} (name) values ('declared schema') "
    "on conflict (name) do update set name = excluded.name"
)
_KNOWN: Final = "select objects from {} where target = %s"
_KNOWN_EVER: Final = "select distinct unnest(objects) from {}"
_KEEP: Final = (
    "insert into {} (target, objects) values (%s, %s) "
    "on conflict (target) do update set objects = excluded.objects, made_at = now()"
)
_PLACE: Final = """
    select nspname::text from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = to_regclass(quote_ident(%s))
"""
# With no schema in the search_path, the catalogue's functions write each name with its schema.
_ONE_PATH: Final = "select set_config('search_path', '', true)"
_OBJECTS: Final = """
    with tables as (
        select class.oid, nspname::text as schema, relname::text as name
        from pg_class as class
        join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and nspname = any(%(schemas)s) and relname <> %(identity)s
    )
    select tables.schema, tables.name,
        'table ' || tables.name as line
    from tables
    union all
    select tables.schema, tables.name,
        'column ' || tables.name || '.' || attname || ' ' || format_type(atttypid, atttypmod)
            || case when attnotnull then ' not null' else '' end
            || case when attidentity <> '' then ' identity' else '' end
            || coalesce(
                case when attgenerated <> '' then ' generated ' else ' default ' end
                    || pg_get_expr(adbin, adrelid), '')
    from tables
    join pg_attribute on attrelid = tables.oid and attnum > 0 and not attisdropped
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    union all
    select tables.schema, tables.name,
        'constraint ' || tables.name || '.' || conname || ' ' || pg_get_constraintdef(pg_constraint.oid)
            || case when convalidated then '' else ' not validated' end
    from tables
    join pg_constraint on conrelid = tables.oid and contype in ('p', 'u', 'f', 'c', 'x')
    union all
    select tables.schema, tables.name,
        'index ' || tables.name || '.' || relname || ' ' || pg_get_indexdef(indexrelid)
            || case when indisvalid then '' else ' invalid' end
    from tables
    join pg_index on indrelid = tables.oid
    join pg_class on pg_class.oid = indexrelid
    where not exists (select from pg_constraint where conindid = indexrelid)
    union all
    select tables.schema, tables.name,
        'trigger ' || tables.name || '.' || tgname || ' ' || pg_get_triggerdef(pg_trigger.oid)
            || ' of ' || md5(prosrc)
            || case when tgenabled = 'O' then '' else ' not as usual: ' || tgenabled::text end
    from tables
    join pg_trigger on tgrelid = tables.oid and not tgisinternal
    join pg_proc on pg_proc.oid = tgfoid
    order by 1, 2, 3
"""  # noqa: E501


@dataclass(frozen=True)
class Drift:
    """What a store has and its migrations do not make, and the other way round; a line each."""

    missing: tuple[str, ...]
    added: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.added)

    def __str__(self) -> str:
        lines = [f"lacks {line}" for line in self.missing]
        return "; ".join([*lines, *(f"has also {line}" for line in self.added)])


def declare_schema(
    owner_url: str,
    *,
    application: Sequence[MigrationEnvironment],
    installation: Installation | None = None,
) -> bool:
    """Writes down what the application's migrations make, if that is not known yet.

    They run in a schema of their own, which is dropped again. Returns whether they had to run.

    Args:
        owner_url: URL with the role that owns the database with the control plane.
        application: the environments of the application's tenant-owned tables.
        installation: as for `migrate()`.

    Raises:
        DatabaseUnreachable: the server did not answer.
        InstallationElsewhere: the library's tables are in another schema.
        Exception: whatever a migration raises that cannot run in an empty schema, or in a
            transaction.
    """
    owner_url = hidden(owner_url)
    wanted = installation or Installation()
    with connect(owner_url) as owner:
        there = replace(wanted, schema=schema_in_use(owner, wanted.schema))
        if not application or declared(owner, application, schema=there.schema) is not None:
            return False
    objects = _made(owner_url, application, there)
    with connect(owner_url) as owner:
        table = sql.Identifier(there.schema, "declared_schemas")
        owner.execute(sql.SQL(_KEEP).format(table), [_target(application), objects])
    return True


class _TakenBack(Exception):
    """The migrations have run, and their transaction is to be taken back."""


def _made(
    owner_url: str, application: Sequence[MigrationEnvironment], there: Installation
) -> list[str]:
    """Runs the migrations in a schema of their own, and returns what they have made."""
    made: list[str] = []
    with suppress(_TakenBack), owners_transaction(owner_url) as (connection, owner):
        owner.execute(SET_LOCK_TIMEOUT, [milliseconds(LOCK_TIMEOUT)])
        owner.execute(sql.SQL(_TURN).format(sql.Identifier(there.schema, "locks")))
        owner.execute(sql.SQL("create schema {}").format(sql.Identifier(SCRATCH)))
        upgrade_schema(connection, owner, SCRATCH, application, there, commits=False)
        made += objects_in(owner, [SCRATCH], version_tables(application))[SCRATCH]
        raise _TakenBack
    return made


def declared(
    connection: psycopg.Connection[Any],
    application: Sequence[MigrationEnvironment],
    *,
    schema: str,
) -> tuple[str, ...] | None:
    """Returns what the newest of the migrations make, a line for each object; None: not known."""
    table = sql.Identifier(schema, "declared_schemas")
    row = connection.execute(sql.SQL(_KNOWN).format(table), [_target(application)]).fetchone()
    return None if row is None else tuple(row[0])


def triggers_of_migrations(connection: psycopg.Connection[Any], *, schema: str) -> set[str]:
    """Returns the names of the triggers that migrations make, of this release or of another.

    Empty if nothing has been written down, as before the library's own migrations.
    """
    table = sql.Identifier(schema, "declared_schemas")
    try:
        with connection.transaction():
            lines = connection.execute(sql.SQL(_KNOWN_EVER).format(table)).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        return set()
    found = (_TRIGGER.match(line) for (line,) in lines)
    return {each[1] for each in found if each is not None}


def objects_in(
    connection: psycopg.Connection[Any],
    schemas: Sequence[str],
    without: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Returns the tables, columns, constraints, indexes and triggers of each schema, a line each.

    The lines name no schema. The tables `without` are left out.
    """
    with connection.transaction():
        before = connection.execute("select current_setting('search_path')").fetchone()
        connection.execute(_ONE_PATH)
        rows = connection.execute(
            _OBJECTS.encode(), {"schemas": list(schemas), "identity": IDENTITY}
        ).fetchall()
        connection.execute("select set_config('search_path', %s, true)", before)
    found: dict[str, list[str]] = {schema: [] for schema in schemas}
    for schema, table, line in rows:
        if table not in without:
            found[schema].append(_without_schema(line, schema))
    return {schema: tuple(lines) for schema, lines in found.items()}


def compared(declared: Iterable[str], found: Iterable[str], *, shared: bool = False) -> Drift:
    """Returns how a store differs from what is declared.

    In the database with the shared store, other tables may be there too: `shared` looks at those
    that are declared alone. A store may be on a server of another release than the control plane.
    """
    declared, found = ([_of_any_server(line) for line in lines] for lines in (declared, found))
    if shared:
        tables = {_table(line) for line in declared}
        found = [line for line in found if _table(line) in tables]
    known, there = set(declared), set(found)
    return Drift(
        missing=tuple(line for line in declared if line not in there),
        added=tuple(line for line in found if line not in known),
    )


def version_tables(application: Sequence[MigrationEnvironment]) -> set[str]:
    """Returns the tables of the application's versions, which its migrations do not make."""
    return {environment.version_table for environment in application}


def is_ahead(
    versions: Mapping[str, str] | None, application: Sequence[MigrationEnvironment]
) -> bool:
    """Whether a store has migrations of a newer release: what they make is not known here.

    `versions` are its last ones by the environment's name.
    """
    at = versions or {}
    return any(
        each.name in at and at[each.name] not in read_lineage(each).before for each in application
    )


def schema_of(
    connection: psycopg.Connection[Any], application: Sequence[MigrationEnvironment]
) -> str | None:
    """Returns the schema that has the application's tables where sessions name none."""
    row = connection.execute(_PLACE, [application[0].version_table]).fetchone()
    return None if row is None else str(row[0])


def _target(application: Sequence[MigrationEnvironment]) -> str:
    newest = [f"{each.name} {read_lineage(each).newest}" for each in application]
    return "; ".join([*newest, _LINES])


def _table(line: str) -> str:
    """Returns the table that a line is about."""
    return line.split(" ", 2)[1].split(".", 1)[0]


def _of_any_server(line: str) -> str:
    """Returns a line as it is on a server with a `uuidv7()` of its own."""
    return _UUIDV7.sub("default uuidv7()", line)


def _without_schema(line: str, schema: str) -> str:
    """Leaves out the store's schema, and that of extensions, which may be the shared store's."""
    for each in (schema, PUBLIC):
        line = line.replace(f"{each}.", "")
    return line
