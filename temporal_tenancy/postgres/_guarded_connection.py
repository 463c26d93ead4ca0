"""Driver connections and cursors that check statements and remove row values from errors.

The engine's events are not enough: SQLAlchemy gives code the driver's connection, COPY is available
only there, and its cursors do not fire the engine's events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import psycopg
from psycopg import generators, sql
from psycopg.abc import Params, PQGen, Query
from psycopg.copy import AsyncCopy, AsyncWriter
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

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
        self._with_commit: str | None = None
        self._row_with_commit: tuple[str, ...] | None = None

    def beginning(self) -> str:
        """Returns the statement that begins a transaction of the connection's characteristics."""
        parts = ["begin"]
        if self.isolation_level is not None:
            level = psycopg.IsolationLevel(self.isolation_level)
            parts.append(f"isolation level {level.name.replace('_', ' ').lower()}")
        if self.read_only is not None:
            parts.append("read only" if self.read_only else "read write")
        if self.deferrable is not None:
            parts.append("deferrable" if self.deferrable else "not deferrable")
        return " ".join(parts)

    def send_with_commit(self, message: str) -> None:
        """Sends `message` with the next commit, which saves a round trip.

        Its statements run after the commit, outside its transaction, and not where that fails.
        """
        self._with_commit = message

    def take_row_with_commit(self) -> tuple[str, ...] | None:
        """Returns the row of the first statement that the last commit sent with it, once.

        None: there was none, a statement failed, or another one has been sent since.
        """
        row, self._row_with_commit = self._row_with_commit, None
        return row

    def forget_row_with_commit(self) -> None:
        """Makes the row of what was sent with a commit worth nothing: more is sent after it."""
        self._row_with_commit = None

    async def commit(self) -> None:
        """Commits, and sends what `send_with_commit` has left with it."""
        message, self._with_commit = self._with_commit, None
        if (
            message is None
            or self.info.transaction_status == TransactionStatus.IDLE
            or self.pgconn.pipeline_status != PipelineStatus.OFF
            or getattr(self, "_num_transactions", False)  # the driver refuses a commit in its own
        ):
            await super().commit()
            return
        async with self.lock:
            sent = f"commit; {message}".encode()
            committed, *others = await self.wait(_results(self.pgconn, sent))
        if committed.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(committed, encoding=self.info.encoding)
        if others and all(each.status != ExecStatus.FATAL_ERROR for each in others):
            row = others[0]
            values = (row.get_value(0, column) for column in range(row.nfields))
            self._row_with_commit = tuple((each or b"").decode("utf-8") for each in values)

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
            connection.forget_row_with_commit()
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


def _results(connection: PGconn, message: bytes) -> PQGen[list[PGresult]]:
    """Sends a message of several statements; returns their results, also those that failed.

    A cursor raises the error, and does not say which statement it is of.
    """
    connection.send_query(message)
    found: list[PGresult] = yield from generators.execute(connection)
    return found


async def _withheld_rows(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    with values_withheld():
        async for row in rows:
            yield row
