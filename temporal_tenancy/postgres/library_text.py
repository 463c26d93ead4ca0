"""SQL text that names the library's tables, whichever schema they are in.

Neither the SQL nor the connections' search_path decides which table is meant: an application may
have tables called `tenants` or `plans` itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import MetaData, Table, TextClause
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from temporal_tenancy.postgres.installation import SCHEMA

_TABLE: Final = re.compile(rf"\b{SCHEMA}\.([a-z_]+)\b")


class LibraryText(TextClause):
    """A `text()` in which `tenancy.name` is the library's table `name`.

    It takes part in SQLAlchemy's `schema_translate_map`, as the ORM's statements do.
    """

    inherit_cache = True


def library_text(statement: str) -> LibraryText:
    """Returns the SQL `statement`, in which each of the library's tables is `tenancy.<name>`.

    On an engine of `Database` it names the schema that the library has in that database.
    Parameters are `:name`, as in SQLAlchemy's `text()`.
    """
    return LibraryText(statement)


@compiles(LibraryText)
def _compile(element: LibraryText, compiler: SQLCompiler, **options: Any) -> str:
    render: Any = compiler.visit_textclause  # without types in SQLAlchemy 2.1
    sql: str = render(element, **options)
    return _TABLE.sub(lambda found: compiler.preparer.format_table(_table(found[1])), sql)


@lru_cache
def _table(name: str) -> Table:  # SQLAlchemy translates only a Table's schema, no table()'s
    return Table(name, MetaData(), schema=SCHEMA)
