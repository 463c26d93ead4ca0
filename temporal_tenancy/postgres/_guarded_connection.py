"""Driver connections and cursors that check scopes and statements, and withhold rows in errors.

The engine's events are not enough: SQLAlchemy gives code the driver's connection, COPY is available
only there, and its cursors do not fire the engine's events. They also cost more: a statement of an
engine with events asks for the listeners of five.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import psycopg
from psycopg import generators, sql
from psycopg.abc import Params, PQGen, Query
from psycopg.copy import AsyncCopy, AsyncWriter
from psycopg.errors import Diagnostic, error_from_result
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from temporal_tenancy.core.errors import ScopeMissing, StatementRefused, TenancyError
from temporal_tenancy.core.scope import (
    PlatformScope,
    TenantScope,
    current_scope,
    current_tenant,
)
from temporal_tenancy.postgres._statement_guard import UNREADABLE, refusal
from temporal_tenancy.postgres._transaction_stamp import TransactionStamp
from temporal_tenancy.postgres.database_errors import (
    TransactionTimeout,
    values_withheld,
    withhold_values,
)

if TYPE_CHECKING:
    from psycopg.abc import QueryNoTemplate  # since psycopg 3.3

Row = TypeVar("Row", covariant=True)
Sent = TypeVar("Sent")


# Whether the commit is a session's last: its connection then returns to the pool.
_is_last: Final[ContextVar[bool]] = ContextVar("temporal_tenancy_is_last_commit", default=False)

# What the driver lets code set on its connection, which has to be as before for the next session.
_SETTINGS: Final = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "prepare_threshold",
    "prepared_max",
)

# The connection on which this code sends statements of the library's own. Not an attribute of the
# connection: another task may use it meanwhile.
_own: Final[ContextVar[GuardedConnection | None]] = ContextVar(
    "temporal_tenancy_own_statements", default=None
)


@contextmanager
def last_commit() -> Iterator[None]:
    """Says of the block's commit that the connection returns to the pool after it."""
    token = _is_last.set(True)
    try:
        yield
    finally:
        _is_last.reset(token)


class GuardedConnection(psycopg.AsyncConnection[Any]):
    """A connection that asks whose the running code is, and whose errors contain no rows' values.

    It asks in `wait()`, which all that the driver sends passes, of cursors of every kind and of its
    blocks, and which has the connection for itself: no transaction ends between question and
    message. Until `guard()` everything may be sent: the pool makes its connections outside a scope.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # the driver's arguments
        super().__init__(*args, **options)
        self.cursor_factory = GuardedCursor
        self.server_cursor_factory = GuardedServerCursor
        self._resetting: str | None = None
        self._row_with_commit: tuple[str, ...] | None = None
        self._settings: dict[str, Any] = {}
        self._handlers: list[Callable[[], None]] = []  # remove those that code has added

    def guard(self, resetting: str) -> None:
        """Begins to check what is sent; `resetting` goes with the last commit of a session."""
        self._resetting = resetting
        self._settings = {name: getattr(self, name) for name in _SETTINGS}

    def restore(self) -> None:
        """Undoes what a session's code has set on this object, at the end of the session."""
        for name, value in self._settings.items():
            setattr(self, name, value)
        while self._handlers:
            with suppress(ValueError):  # the code has done it
                self._handlers.pop()()

    def add_notice_handler(self, callback: Callable[[Diagnostic], None]) -> None:
        super().add_notice_handler(callback)
        if self._resetting is not None:
            self._handlers.append(partial(self.remove_notice_handler, callback))

    def add_notify_handler(self, callback: Callable[[psycopg.Notify], None]) -> None:
        super().add_notify_handler(callback)
        if self._resetting is not None:
            self._handlers.append(partial(self.remove_notify_handler, callback))

    @contextmanager
    def own_statements(self) -> Iterator[None]:
        """Lets the block send the statements that begin and reset a transaction."""
        token = _own.set(self)
        try:
            yield
        finally:
            _own.reset(token)

    @property
    def is_own(self) -> bool:
        """Whether what this code sends is the library's own."""
        return self._resetting is None or _own.get() is self

    async def wait(self, gen: PQGen[Sent], *args: Any, **options: Any) -> Sent:
        """Sends and receives what `gen` does; raises if the running code may not begin to."""
        # In a pipeline the cursors ask: its end must be sent.
        if not self.is_own and self.pgconn.pipeline_status == PipelineStatus.OFF:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.require_receiver()
            else:
                self.require_sender()
        return await super().wait(gen, *args, **options)

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
        """Commits; at the end of a session, with the message that resets the connection.

        A commit that the running code may not ask for is a rollback, and raises.
        """
        if not self.is_own:
            try:
                self.require_committer()
            except (TenancyError, TransactionTimeout):
                await self.rollback()
                raise
        if (
            self._resetting is None
            or not _is_last.get()
            or self.pgconn.transaction_status == TransactionStatus.IDLE
            or self.pgconn.pipeline_status != PipelineStatus.OFF
            or getattr(self, "_num_transactions", False)  # the driver refuses a commit in its own
        ):
            with self.own_statements():
                await super().commit()
            return
        await self.commit_and_send(self._resetting)

    async def rollback(self) -> None:
        """Rolls back, in any scope: so ends what may not be committed."""
        with self.own_statements():
            await super().rollback()

    # What the driver sends of these, it sends at the next BEGIN.
    async def set_autocommit(self, value: bool) -> None:
        with self.own_statements():
            await super().set_autocommit(value)

    async def set_isolation_level(self, value: psycopg.IsolationLevel | None) -> None:
        with self.own_statements():
            await super().set_isolation_level(value)

    async def set_read_only(self, value: bool | None) -> None:
        with self.own_statements():
            await super().set_read_only(value)

    async def set_deferrable(self, value: bool | None) -> None:
        with self.own_statements():
            await super().set_deferrable(value)

    async def commit_and_send(self, message: str) -> None:
        """Commits, and sends `message` with it, which saves a round trip.

        Its statements run after the commit, outside its transaction, and not where that fails.
        """
        async with self.lock:
            sent = f"commit; {message}".encode()
            with self.own_statements():
                committed, *others = await self.wait(_results(self.pgconn, sent))
        if committed.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(committed, encoding=self.info.encoding)
        if others and all(each.status != ExecStatus.FATAL_ERROR for each in others):
            row = others[0]
            values = (row.get_value(0, column) for column in range(row.nfields))
            self._row_with_commit = tuple((each or b"").decode("utf-8") for each in values)

    def check(self, statement: str, *, placeholders: bool) -> None:
        """Raises if the running code may not send `statement` on this connection.

        `placeholders` tells whether the driver replaces placeholders in it.
        """
        if self.pgconn.pipeline_status != PipelineStatus.OFF and not self.is_own:
            self.require_sender()

    def require_sender(self) -> None:
        """Raises unless the running code may send statements."""
        raise NotImplementedError

    def require_receiver(self) -> None:
        """Raises unless the running code may go on with a COPY, or get more rows of a stream."""
        self.require_sender()

    def require_committer(self) -> None:
        """Raises unless the running code may commit."""
        raise NotImplementedError

    def answered(self) -> None:
        """Notes that a statement has ended well."""


class PlatformConnection(GuardedConnection):
    """A connection of the control plane: for code in a platform scope alone."""

    def require_sender(self) -> None:
        scope = current_scope()
        if isinstance(scope, PlatformScope):
            return
        where = f"in the scope of {scope}" if isinstance(scope, TenantScope) else "without a scope"
        raise ScopeMissing(
            f"the control plane needs a platform scope, but this code runs {where}. "
            "Use platform_session(reason)."
        )

    def require_committer(self) -> None:
        self.require_sender()


class TenantConnection(GuardedConnection):
    """A connection for one tenant's transactions; it refuses SQL that could change its tenant."""

    def __init__(self, *args: Any, **options: Any) -> None:  # the driver's arguments
        super().__init__(*args, **options)
        self.stamp: TransactionStamp | None = None  # of the transaction that is under way
        self.is_last_wanted = False

    @contextmanager
    def last_result(self) -> Iterator[None]:
        """Gives the rows of the last statement where one message has several."""
        self.is_last_wanted = True
        try:
            yield
        finally:
            self.is_last_wanted = False

    def check(self, statement: str, *, placeholders: bool) -> None:
        """Raises before anything is sent, `StatementRefused` for what could change the tenant."""
        super().check(statement, placeholders=placeholders)
        if not self.is_own:
            reason = refusal(statement, placeholders=placeholders)
            if reason is not None:
                raise StatementRefused(reason)
        if self.stamp is not None:
            self.stamp.times.send()

    def require_sender(self) -> None:
        stamp = self.stamp
        # A COMMIT sent as SQL ends the transaction and clears the setting, and the ORM does not
        # notice.
        if stamp is None or self.pgconn.transaction_status == TransactionStatus.IDLE:
            raise ScopeMissing(
                f"this transaction was not begun for tenant {current_tenant()}. Use "
                "tenant_session(), and call its commit() and rollback() rather than SQL."
            )
        stamp.require_tenant()

    def require_receiver(self) -> None:
        if self.stamp is not None:
            self.stamp.require_scope()

    def require_committer(self) -> None:
        if self.stamp is None:
            current_tenant()
        else:
            self.stamp.require_tenant_at_commit()

    def answered(self) -> None:
        if self.stamp is not None:
            self.stamp.times.answer()

    async def commit(self) -> None:
        try:
            await super().commit()
        finally:
            self._end()

    async def rollback(self) -> None:
        try:
            await super().rollback()
        finally:
            self._end()

    def _end(self) -> None:
        """Forgets the transaction, unless it goes on: the driver may have refused to end it.

        Of a lost connection the times are needed, to tell which limit ended it.
        """
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            self.stamp = None


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

    def _answered(self) -> psycopg.AsyncConnection[Any]:
        """Notes that the statement has ended well; returns the connection."""
        connection = self._conn
        if isinstance(connection, GuardedConnection):
            connection.answered()
        return connection

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
        except psycopg.Error as error:
            withhold_values(error)
            raise
        connection = self._answered()
        if isinstance(connection, TenantConnection) and connection.is_last_wanted:
            while self.nextset():
                pass
        return self

    async def executemany(
        self, query: Query, params_seq: Iterable[Params], *, returning: bool = False
    ) -> None:
        sent = self._checked(query, ())
        with values_withheld():
            await super().executemany(sent, params_seq, returning=returning)
        self._answered()

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
        self._answered()

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
        self._answered()


class GuardedServerCursor(_Guarded[Row], psycopg.AsyncServerCursor[Row]):
    """A cursor of a `GuardedConnection` whose rows stay on the server, until its transaction ends.

    To send its FETCH later would make the next transaction on the connection fail.
    """

    _stamp: TransactionStamp | None = None  # of the transaction that it was executed in

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
            await super().execute(sent, params, binary=binary, **options)
        except psycopg.Error as error:
            withhold_values(error)
            raise
        self._stamp = _stamp_of(self._answered())
        return self

    async def fetchone(self) -> Row | None:
        self._require_transaction()
        return await super().fetchone()

    async def fetchmany(self, size: int = 0) -> list[Row]:
        self._require_transaction()
        return await super().fetchmany(size)

    async def fetchall(self) -> list[Row]:
        self._require_transaction()
        return await super().fetchall()

    def __aiter__(self) -> Self:
        self._require_transaction()
        return super().__aiter__()

    async def __anext__(self) -> Row:
        self._require_transaction()
        return await super().__anext__()

    async def scroll(self, value: int, mode: str = "relative") -> None:
        self._require_transaction()
        await super().scroll(value, mode)

    async def close(self) -> None:
        """Closes it on the server too, if this code may send that: its transaction does it."""
        try:
            self._require_transaction()
            await super().close()
        except (TenancyError, TransactionTimeout):
            await psycopg.AsyncCursor.close(self)

    def _require_transaction(self) -> None:
        if self._stamp is not None and self._stamp is not _stamp_of(self._conn):
            raise ScopeMissing(
                "the transaction in which these rows were asked for has ended. Read them inside "
                "their tenant_session(), before its commit() or rollback()."
            )


def _stamp_of(connection: psycopg.AsyncConnection[Any]) -> TransactionStamp | None:
    return connection.stamp if isinstance(connection, TenantConnection) else None


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
