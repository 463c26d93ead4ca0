"""Driver connections and cursors that check statements and remove row values from errors.

The engine's events are not enough: SQLAlchemy gives code the driver's connection, COPY is available
only there, and its cursors do not fire the engine's events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.abc import Params, Query
from psycopg.copy import AsyncCopy, AsyncWriter

from temporal_tenancy.core.errors import StatementRefused
from temporal_tenancy.postgres._statement_guard import UNREADABLE, refusal
from temporal_tenancy.postgres.database_errors import values_withheld, withhold_values

if TYPE_CHECKING:
    from psycopg.abc import QueryNoTemplate  # since psycopg 3.3

Row = TypeVar("Row", covariant=True)


class GuardedConnection(psycopg.AsyncConnection[Any]):
    """A connection whose errors contain no values of rows."""

    def __init__(self, *args: Any, **options: Any) -> None:  # the driver's arguments
        super().__init__(*args, **options)
        self.cursor_factory = GuardedCursor
        self.server_cursor_factory = GuardedServerCursor

    def check(self, statement: str, *, placeholders: bool) -> None:
        """Raises if `statement` may not be sent on this connection; here all may.

        `placeholders` tells whether the driver replaces placeholders in it.
        """


class TenantConnection(GuardedConnection):
    """A connection that also refuses SQL that could change its tenant or its limits."""

    def __init__(self, *args: Any, **options: Any) -> None:  # the driver's arguments
        super().__init__(*args, **options)
        self._unguarded = False
        self.is_last_wanted = False

    @contextmanager
    def own_statements(self) -> Iterator[None]:
        """Lets the block send the statements that set and reset the tenant."""
        before, self._unguarded = self._unguarded, True
        try:
            yield
        finally:
            self._unguarded = before

    @contextmanager
    def last_result(self) -> Iterator[None]:
        """Gives the rows of the last statement where one message has several."""
        self.is_last_wanted = True
        try:
            yield
        finally:
            self.is_last_wanted = False

    def check(self, statement: str, *, placeholders: bool) -> None:
        """Raises `StatementRefused` before anything is sent."""
        reason = None if self._unguarded else refusal(statement, placeholders=placeholders)
        if reason is not None:
            raise StatementRefused(reason)


class _Guarded(psycopg.AsyncCursor[Row]):
    """Checks that all kinds of cursor make before and after the driver's own work."""

    def _checked(self, query: Query, params: Params | None) -> QueryNoTemplate:
        """Returns the query in the form that was checked; raises `StatementRefused`."""
        checked = query
        if isinstance(checked, str):
            statement: str = checked
        else:
            if isinstance(checked, sql.Composable):
                checked = checked.as_bytes(self)
            if not isinstance(checked, bytes):
                raise StatementRefused(UNREADABLE)
            # To the server's lexer each byte of a multi-byte character is a letter. So it is in
            # Latin-1.
            statement = checked.decode("latin-1")
        connection = self._conn
        if isinstance(connection, GuardedConnection):
            connection.check(statement, placeholders=params is not None)
        return checked

    async def fetchone(self) -> Row | None:
        try:
            return await super().fetchone()
        except psycopg.Error as error:
            withhold_values(error)
            raise

    async def fetchmany(self, size: int = 0) -> list[Row]:
        try:
            return await super().fetchmany(size)
        except psycopg.Error as error:
            withhold_values(error)
            raise

    async def fetchall(self) -> list[Row]:
        try:
            return await super().fetchall()
        except psycopg.Error as error:
            withhold_values(error)
            raise

    def __aiter__(self) -> Self:
        rows: AsyncIterator[Row] = super().__aiter__()
        if rows is self:
            return self
        # Before psycopg 3.3 a generator, which does not call `__anext__`.
        return cast("Self", _withheld_rows(rows))

    async def __anext__(self) -> Row:
        try:
            return await super().__anext__()
        except psycopg.Error as error:
            withhold_values(error)
            raise


class GuardedCursor(_Guarded[Row]):
    """A cursor of a `GuardedConnection`."""

    async def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> GuardedCursor[Row]:
        sent = self._checked(query, params)
        try:
            await super().execute(sent, params, prepare=prepare, binary=binary)
            connection = self._conn
            if isinstance(connection, TenantConnection) and connection.is_last_wanted:
                while self.nextset():
                    pass
            return self
        except psycopg.Error as error:
            withhold_values(error)
            raise

    async def executemany(
        self, query: Query, params_seq: Iterable[Params], *, returning: bool = False
    ) -> None:
        sent = self._checked(query, ())
        with values_withheld():
            await super().executemany(sent, params_seq, returning=returning)

    async def stream(
        self,
        query: Query,
        params: Params | None = None,
        *,
        binary: bool | None = None,
        size: int = 1,
    ) -> AsyncIterator[Row]:
        sent = self._checked(query, params)
        with values_withheld():
            async for row in super().stream(sent, params, binary=binary, size=size):
                yield row

    @asynccontextmanager
    async def copy(
        self,
        statement: Query,
        params: Params | None = None,
        *,
        writer: AsyncWriter | None = None,
    ) -> AsyncIterator[AsyncCopy]:
        sent = self._checked(statement, params)
        with values_withheld():
            async with super().copy(sent, params, writer=writer) as copy:
                yield copy


class GuardedServerCursor(_Guarded[Row], psycopg.AsyncServerCursor[Row]):
    """A cursor of a `GuardedConnection` whose rows stay on the server."""

    async def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        binary: bool | None = None,
        **options: Any,
    ) -> GuardedServerCursor[Row]:
        sent = self._checked(query, params)
        try:
            return await super().execute(sent, params, binary=binary, **options)
        except psycopg.Error as error:
            withhold_values(error)
            raise


async def _withheld_rows(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    with values_withheld():
        async for row in rows:
            yield row
