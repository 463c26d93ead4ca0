"""Runs the library's statements on a psycopg connection that the application opened itself.

The library's code that uses a session is written once, as coroutines. Over a sync connection they
never wait, so `finish` runs them to their end without an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Loader
from psycopg.rows import kwargs_row
from psycopg.types.bool import BoolLoader
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader
from psycopg.types.uuid import UUIDLoader
from sqlalchemy import Dialect, TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from temporal_tenancy.postgres.database_errors import values_withheld
from temporal_tenancy.postgres.installation import SCHEMA
from temporal_tenancy.postgres.schema_in_use import (
    HAS_TABLES,
    chosen,
    refuse_elsewhere,
    with_tables,
)

RawConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

Result = TypeVar("Result")

# The application may read these types as others on its connection, as Django does.
Values = Mapping[str, object] | Sequence[object]

_LOADERS: Final[Mapping[str, type[Loader]]] = {
    "bool": BoolLoader,
    "text": TextLoader,
    "timestamptz": TimestamptzLoader,
    "uuid": UUIDLoader,
}


# The schema that was asked for, and the one that has the tables.
_schemas: Final[WeakKeyDictionary[RawConnection, tuple[str, str]]] = WeakKeyDictionary()

_by_name: Final = kwargs_row(SimpleNamespace)
_DIALECT: Final[Dialect] = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Rows(list[Any]):  # each has its columns as attributes
    """The rows of one statement."""

    def all(self) -> list[Any]:
        """Returns all rows, as a session's result does."""
        return self


class RawSession:
    """The part of a session that the library's statements need, on a raw connection."""

    def __init__(self, connection: RawConnection, schema: str = SCHEMA) -> None:
        """`schema`: the one that the library's tables are in, unless they are in `public`."""
        self.connection = connection
        self.schema = schema

    async def execute(
        self, statement: TextClause, values: Mapping[str, object] | None = None
    ) -> Rows:
        """Sends a statement with its values, by name; its errors contain no values of rows."""
        return await self.send(compiled(statement, await self.schema_in_use()), values or {})

    async def schema_in_use(self) -> str:
        """Returns `public` if the library's tables are there and not in `schema`, else `schema`.

        It asks once for each connection. Raises `InstallationElsewhere` if they are in neither, but
        in another schema.
        """
        found = _schemas.get(self.connection)
        if found is None or found[0] != self.schema:
            places = [(row.schema, row.kind) for row in await self.send(HAS_TABLES)]
            refuse_elsewhere(places, self.schema)
            found = (self.schema, chosen(with_tables(places), self.schema))
            _schemas[self.connection] = found
        return found[1]

    async def scalar(
        self, statement: TextClause, values: Mapping[str, object] | None = None
    ) -> Any:  # any column
        """Returns the first column of the first row; None without a row."""
        rows = await self.execute(statement, values)
        return next(iter(vars(rows[0]).values())) if rows else None

    async def send(self, statement: str, values: Values | None = None) -> Rows:
        """Sends one statement in the driver's own form, and returns its rows."""
        with values_withheld():
            if isinstance(self.connection, psycopg.AsyncConnection):
                return Rows(
                    await (await _execute_async(self.connection, statement, values)).fetchall()
                )
            return Rows(_execute(self.connection, statement, values).fetchall())

    async def command(self, statement: str) -> None:
        """Sends one statement that returns no rows."""
        with values_withheld():
            if isinstance(self.connection, psycopg.AsyncConnection):
                await _execute_async(self.connection, statement)
            else:
                _execute(self.connection, statement)

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        """Runs the block in a savepoint."""
        if isinstance(self.connection, psycopg.AsyncConnection):
            async with self.connection.transaction():
                yield
        else:
            with self.connection.transaction():
                yield


def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Returns the result of `work`, which never waits because its connection is a sync one."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    work.close()
    raise RuntimeError("this code waits for an event loop, which a sync connection has none of.")


# Never prepared: behind a transaction pooler, the next one may reach another server process.
async def _execute_async(
    connection: psycopg.AsyncConnection[Any],
    statement: str,
    values: Values | None = None,
) -> psycopg.AsyncCursor[SimpleNamespace]:
    cursor = psycopg.AsyncCursor(connection, row_factory=_by_name)
    _read_as_usual(cursor)
    return await cursor.execute(statement.encode(), values, prepare=False)


def _execute(
    connection: psycopg.Connection[Any],
    statement: str,
    values: Values | None = None,
) -> psycopg.Cursor[SimpleNamespace]:
    cursor = psycopg.Cursor(connection, row_factory=_by_name)
    _read_as_usual(cursor)
    return cursor.execute(statement.encode(), values, prepare=False)


def _read_as_usual(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    for name, loader in _LOADERS.items():
        cursor.adapters.register_loader(name, loader)


@lru_cache
def compiled(statement: TextClause, schema: str = SCHEMA) -> str:
    """Returns a statement in the driver's own form, with the library's tables in `schema`."""
    return str(
        statement.compile(
            dialect=_DIALECT,
            schema_translate_map={SCHEMA: schema},
            render_schema_translate=True,
        )
    )
