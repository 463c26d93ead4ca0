"""Moves the library's tables to their schema, from `public`, where earlier releases made them, or
from the schema that an installation had before.

The old names stay as views, through which processes of an earlier release read and write the same
rows with the same rights, until the views are dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import MigrationBlocked
from temporal_tenancy.postgres.installation import PUBLIC, Installation
from temporal_tenancy.postgres.library_schema import TABLES, grant_schema, make_schema
from temporal_tenancy.postgres.lock_timeouts import milliseconds
from temporal_tenancy.postgres.migrations import Patience
from temporal_tenancy.postgres.schema_in_use import HAS_TABLES, with_tables
from temporal_tenancy.postgres.secret_texts import hidden

# Two of them are shorter than the server's deadlock_timeout: where this transaction and another one
# wait for each other, it is this one that ends.
LONGEST_WAIT: Final = timedelta(milliseconds=400)

MOVED: Final = (*TABLES, *(environment.version_table for environment in LIBRARY))
"""The tables that are moved."""

_PRESENT: Final = """
    select relname::text
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = %s and relname = any(%s) and relkind in ('r', 'p', 'v', 'm', 'f')
    order by relname
"""
# Those that the tables use in their schema, where the application may have one of such a name too.
_FUNCTIONS: Final = """
    with moved as (
        select pg_class.oid
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = %(schema)s and relname = any(%(tables)s)
    )
    select proname::text
    from pg_proc
    join pg_namespace on pg_namespace.oid = pronamespace
    where nspname = %(schema)s and proname in ('refuse_write', 'key_from_id', 'uuidv7')
        and pronargs = 0 and pg_proc.oid in (
            select tgfoid from pg_trigger where tgrelid in (select oid from moved)
            union all
            select refobjid
            from pg_attrdef
            join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
                and refclassid = 'pg_proc'::regclass
            where adrelid in (select oid from moved)
        )
"""
# Each right of a role other than the owner, as (table, role, right, columns); null: all columns.
_RIGHTS: Final = """
    select relname::text, grantee::regrole::text, privilege_type, null::text[]
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace, aclexplode(relacl)
    where nspname = %(schema)s and relname = any(%(tables)s)
        and grantee not in (0, relowner)
        and privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    union all
    select
        relname::text, grantee::regrole::text, privilege_type,
        array_agg(attname::text order by attnum)
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    join pg_attribute on attrelid = pg_class.oid, aclexplode(attacl)
    where nspname = %(schema)s and relname = any(%(tables)s) and not attisdropped
        and grantee not in (0, relowner)
        and privilege_type in ('SELECT', 'INSERT', 'UPDATE')
    group by relname, grantee, privilege_type
"""
# The views that `move()` made: each has only the library's table of its own name under it, and they
# are beside one of the version table.
_VIEWS: Final = """
    with views as (
        select distinct view.relname::text as name, nspname::text as schema
        from pg_class as view
        join pg_namespace on pg_namespace.oid = view.relnamespace
        join pg_rewrite on ev_class = view.oid
        join pg_depend
            on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
            and refclassid = 'pg_class'::regclass and refobjid <> view.oid
        join pg_class as below on below.oid = refobjid
        where view.relkind = 'v' and view.relname = any(%s) and below.relname = view.relname
            and below.relnamespace = (select oid from pg_namespace where nspname = %s)
    )
    select schema, name
    from views
    where schema = 'public' or schema in (
        select schema from views where name = 'control_plane_version'
    )
    order by schema <> 'public', schema, name
"""

Result = TypeVar("Result")

log: Final = logging.getLogger(__name__)


def move(
    owner_url: str,
    *,
    installation: Installation | None = None,
    patience: Patience | None = None,
) -> bool:
    """Moves the library's tables, functions and versions into the installation's schema.

    They are in `public`, or in the schema that the installation had before. One transaction, which
    changes all or nothing. Processes of an earlier release, or that name the earlier schema, go on:
    each table's old name is a view with the rights of the table, under which row-level security and
    triggers apply as before. Running processes of this release need no restart either. Safe to
    repeat.

    Args:
        owner_url: URL with the role that owns the database.
        installation: the schema to move to, and the runtime roles; None: the defaults.
        patience: how often to try, and the pause between tries. A try waits for other
            transactions' locks for less than a second, in which their next statements wait too.

    Returns:
        Whether there was anything to move.

    Raises:
        ConfigurationError: the schema has other tables of these names, or several other schemas
            have the library's.
        DatabaseUnreachable: the server did not answer, or refused the owner.
        MigrationBlocked: other transactions used the tables on every try.
    """
    owner_url = hidden(owner_url)
    there = installation or Installation()
    if there.schema == PUBLIC:
        return False
    with connect(owner_url) as owner:
        return _patiently(lambda: _move(owner, there), patience or Patience())


def drop_views(
    owner_url: str,
    *,
    installation: Installation | None = None,
    patience: Patience | None = None,
) -> list[str]:
    """Drops the views that `move()` left under the old names; returns their names.

    Call it when no process of an earlier release, or with the earlier schema, runs, and no
    connection is left that was opened before the move. Safe to repeat. Names of views in other
    schemas than `public` have the schema before them.

    Raises:
        ConfigurationError: objects of the application depend on the views.
        DatabaseUnreachable: the server did not answer, or refused the owner.
        MigrationBlocked: other transactions used the views on every try.
    """
    owner_url = hidden(owner_url)
    there = installation or Installation()
    with connect(owner_url) as owner:
        return _patiently(lambda: _drop_views(owner, there.schema), patience or Patience())


def views_of_old_names(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Returns the names of the views that a `move()` to `schema` left; for any role.

    Views in other schemas than `public` have the schema before their names.
    """
    return [".".join(_parts(place, name)) for place, name in _views(connection, schema)]


def places_of(views: Sequence[str]) -> str:
    """Returns the schemas of the views that a move has left, for people."""
    return " and ".join(dict.fromkeys(view.rpartition(".")[0] or PUBLIC for view in views))


def _views(connection: psycopg.Connection[Any], schema: str) -> list[tuple[str, str]]:
    return connection.execute(_VIEWS, [list(MOVED), schema]).fetchall()


def _parts(schema: str, name: str) -> Sequence[str]:
    return [name] if schema == PUBLIC else [schema, name]


def _patiently(attempt: Callable[[], Result], patience: Patience) -> Result:
    for left in reversed(range(patience.tries)):
        try:
            return attempt()
        except (
            psycopg.errors.QueryCanceled,
            psycopg.errors.LockNotAvailable,
            psycopg.errors.DeadlockDetected,
        ):
            log.warning("migrations.blocked", extra={"environment": "library", "tries_left": left})
        if left:
            time.sleep(patience.pause.total_seconds())
    raise MigrationBlocked(
        f"other transactions used the library's tables on {number(patience.tries, 'try')} in a "
        "row, and nothing has changed. Try again when they have ended."
    )


def _move(owner: psycopg.Connection[Any], there: Installation) -> bool:
    schema = sql.Identifier(there.schema)
    with owner.transaction():
        source = source_of_move(owner, there.schema)
        if source is None:
            return False
        make_schema(owner, there.schema)
        _lock(owner, source, ["locks"])  # another call that migrates has a row of it locked
        tables = _present(owner, source)
        taken = _present(owner, there.schema)
        if taken:
            raise ConfigurationError(
                f"the schema {there.schema} already has {', '.join(taken)}. Move to a schema that "
                "has no tables of these names."
            )
        _lock(owner, source, tables)
        grant_schema(owner, there.schema, list(there.roles))
        functions = owner.execute(_FUNCTIONS, {"schema": source, "tables": tables}).fetchall()
        for table in tables:
            owner.execute(
                sql.SQL("alter table {} set schema {}").format(
                    sql.Identifier(source, table), schema
                )
            )
        for (function,) in functions:
            owner.execute(
                sql.SQL("alter function {}() set schema {}").format(
                    sql.Identifier(source, function), schema
                )
            )
        for table in tables:
            owner.execute(
                sql.SQL("create view {} with (security_invoker = true) as select * from {}").format(
                    sql.Identifier(source, table), sql.Identifier(there.schema, table)
                )
            )
        _copy_rights(owner, there.schema, source, tables)
    return True


def source_of_move(connection: psycopg.Connection[Any], schema: str) -> str | None:
    """Returns the schema from which `move()` moves the tables to `schema`; None: it has them.

    Raises `ConfigurationError` if several others have them.
    """
    found = with_tables(connection.execute(HAS_TABLES.encode()).fetchall())
    if schema in found or not found:
        return None
    if PUBLIC in found:
        return PUBLIC
    if len(found) > 1:
        raise ConfigurationError(
            f"the schemas {', '.join(map(printable, sorted(found)))} have the library's tables. "
            "Name one of them: no move can tell which of them to take."
        )
    return found.pop()


def _lock(owner: psycopg.Connection[Any], schema: str, tables: Sequence[str]) -> None:
    # lock_timeout would count for each table anew.
    owner.execute("select set_config('statement_timeout', %s, true)", [milliseconds(LONGEST_WAIT)])
    names = sql.SQL(", ").join(sql.Identifier(schema, table) for table in tables)
    owner.execute(sql.SQL("lock table {} in access exclusive mode").format(names))
    owner.execute("set local statement_timeout = 0")


def _copy_rights(
    owner: psycopg.Connection[Any], schema: str, source: str, tables: Sequence[str]
) -> None:
    """Gives each role the rights on the views that it has on the tables."""
    found = owner.execute(_RIGHTS, {"schema": schema, "tables": list(tables)}).fetchall()
    for table, role, right, columns in found:
        which: sql.Composable = sql.SQL("")
        if columns is not None:
            which = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
        owner.execute(
            sql.SQL("grant {}{} on {} to {}").format(
                sql.SQL(right), which, sql.Identifier(source, table), sql.SQL(role)
            )
        )


def _drop_views(owner: psycopg.Connection[Any], schema: str) -> list[str]:
    with owner.transaction():
        views = _views(owner, schema)
        if views:
            owner.execute(
                "select set_config('statement_timeout', %s, true)", [milliseconds(LONGEST_WAIT)]
            )
            names = sql.SQL(", ").join(sql.Identifier(place, view) for place, view in views)
            try:
                owner.execute(sql.SQL("drop view {}").format(names))
            except psycopg.errors.DependentObjectsStillExist as error:
                raise ConfigurationError(
                    f"objects of the application use the old names: {error.diag.message_detail} "
                    f"Make them use the tables in {schema}, and try again."
                ) from None
        return [".".join(_parts(*view)) for view in views]


def _present(owner: psycopg.Connection[Any], schema: str) -> list[str]:
    return [name for (name,) in owner.execute(_PRESENT, [schema, list(MOVED)])]
