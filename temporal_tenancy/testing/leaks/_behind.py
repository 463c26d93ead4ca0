"""Tables that the tenant role cannot read itself, and reads with the rights of another role.

Where nothing tells whose their rows are, the check cannot put another tenant's rows there, so what
shows them shows nothing during the check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from temporal_tenancy.testing.leaks._catalogue import Catalogue

# Views read with their owner's rights, and whatever they read in turn. A function is not read by
# the server before it runs, so the tables are those that its text names.
_BEHIND: Final = r"""
    with recursive tables as (
        select class.oid, format('%%I.%%I', nspname, relname) as sql, relname::text as name
        from pg_class as class
        join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p', 'f') and not relispartition
            and nspname !~ '^pg_' and nspname <> 'information_schema'
            and not exists (
                select from pg_depend
                where classid = 'pg_class'::regclass and objid = class.oid and deptype = 'e'
            )
    ),
    direct as (
        select distinct ev_class as reader, refobjid as read
        from pg_rewrite
        join pg_class on pg_class.oid = ev_class and relkind in ('v', 'm')
        join pg_depend on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
            and refclassid = 'pg_class'::regclass and refobjid <> ev_class
    ),
    reading as (
        select reader, read from direct
        union
        select reading.reader, direct.read from reading join direct on direct.reader = reading.read
    ),
    named as (
        select pg_proc.oid as function, pg_class.oid as relation
        from pg_proc
        join pg_class on relkind in ('r', 'p', 'f', 'v', 'm')
        join pg_namespace on pg_namespace.oid = relnamespace
        where prosecdef and nspname !~ '^pg_' and nspname <> 'information_schema' and (
            prosrc ~* concat('\m', regexp_replace(relname, '([^\w])', '\\\1', 'g'), '\M')
            or exists (
                select from pg_depend
                where classid = 'pg_proc'::regclass and objid = pg_proc.oid
                    and refclassid = 'pg_class'::regclass and refobjid = pg_class.oid
            )
        )
    )
    select reader::bigint as reader, '' as signature, tables.oid::bigint as table, tables.sql, name
    from reading join tables on tables.oid = read
    union
    select 0, function::regprocedure::text, tables.oid::bigint, tables.sql, name
    from named
    left join reading on reader = relation
    join tables on tables.oid in (relation, read)
    order by sql
"""


@dataclass(frozen=True)
class Behind:
    """A view or function, and a table that only it lets the tenant role see."""

    object: str  # the view's name, or the function's signature
    table: str  # quoted, with its schema
    name: str  # without its schema


def tables_behind(connection: psycopg.Connection[Any], catalogue: Catalogue) -> Iterator[Behind]:
    """Yields the tables behind views and functions of which nothing tells whose their rows are.

    Args:
        connection: a superuser's.
        catalogue: what the tenant role can reach.
    """
    definers = {each.signature for each in catalogue.functions if each.definer}
    for reader, signature, table, sql, name in connection.execute(_BEHIND, []).fetchall():
        own = catalogue.relations.get(table)
        if own is not None and (own.owned_by or "SELECT" in own.privileges):
            continue  # rows are put there, or the table itself is reported
        view = catalogue.relations.get(reader)
        if signature in definers:
            yield Behind(signature, sql, name)
        elif view is not None and view.privileges and not view.is_invoker:
            yield Behind(view.sql, sql, name)
