"""What can go wrong with the database, told without any row's values or any credentials."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.pq import DiagnosticField
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, StatementError

ROW_POLICY_CHECK: Final = "ExecWithCheckOptions"  # the server function that refuses a foreign row

# The SQLSTATE classes whose own message names schema objects and settings only. In the others (bad
# data, failed checks, whatever a trigger or function raises) it may quote the row.
_VALUE_FREE_CLASSES: Final = frozenset(
    {"08", "0A", "25", "28", "2D", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
_VALUE_FREE_FIELDS: Final = (
    DiagnosticField.SEVERITY_NONLOCALIZED,
    DiagnosticField.SQLSTATE,
    DiagnosticField.SCHEMA_NAME,
    DiagnosticField.TABLE_NAME,
    DiagnosticField.COLUMN_NAME,
    DiagnosticField.DATATYPE_NAME,
    DiagnosticField.CONSTRAINT_NAME,
    DiagnosticField.SOURCE_FUNCTION,
)

_CLIENTS_VALUE_FREE: Final = frozenset(
    {"PostgreSQL text fields cannot contain NUL (0x00) bytes", "cannot dump a recursive list"}
)
# What one row can bring about in a statement that is right for others: it is not data that the
# statement can work on (22, 23), it is more than the server can hold (53200, 54), takes too long
# (57014), or is more than the server's own code expects (XX).
_OF_A_ROW: Final = ("22", "23", "53200", "54", "57014", "XX")


class DatabaseProblem(Exception):
    """The database cannot be used as it is."""

    def __init__(self, message: str | None = None) -> None:
        """`message` is one sentence (or two) that says what is wrong and what to do about it."""
        self.message = message or type(self).__doc__ or ""
        super().__init__(self.message)

    @property
    def sentence(self) -> str:
        """What a person is shown: the type and the message."""
        return f"{type(self).__name__}: {self.message}"


class DatabaseUnreachable(DatabaseProblem):
    """The database does not answer, or not to this role. A later attempt may find it."""


class LockHeld(DatabaseProblem):
    """Another transaction has locked what this needs, and kept it. A later attempt may find it."""


class StatementTimeout(DatabaseProblem):
    """A statement took longer than its session's limit. A later attempt may find less to do."""


class IdleTransaction(DatabaseProblem):
    """A transaction was left idle for longer than its session's limit, and its connection ended."""


class TransactionTimeout(DatabaseProblem):
    """A transaction took longer than its session's limit, and was ended with its connection."""


class PoolShareExceeded(DatabaseProblem):
    """A session inside another one asks for more connections than the tenant may hold."""


class PoolShareInUse(DatabaseProblem):
    """A tenant's own work holds all connections that it may have, and does not get on."""


class PoolExhausted(DatabaseProblem):
    """The work of others holds all connections of this process."""


class MigrationsBehind(DatabaseProblem):
    """The database lacks migrations that the code needs."""


class MigrationBlocked(DatabaseProblem):
    """A migration has waited in vain for what others have locked."""


class ExcessRights(DatabaseProblem):
    """A role of the running system may do more than its part."""


def withhold_values(error: psycopg.Error) -> None:
    """Takes out of `error`, in place, what may quote a row: detail, hint, context and message.

    What names the kind of failure stays: class, SQLSTATE, and the table, column and constraint, in
    the text and in `error.diag`. In place, because the driver's own error stays reachable as the
    cause of whatever is raised for it, and tracebacks print causes.
    """
    diag = error.diag
    if diag.sqlstate is None:
        if isinstance(error, psycopg.DataError):
            _withhold_clients_words(error)
        return  # the client's other words: no row is in them
    kept: dict[int, bytes | None] = {
        field: value.encode()
        for field in _VALUE_FREE_FIELDS
        if (value := getattr(diag, field.name.lower(), None)) is not None
    }
    says = type(error).__name__
    if diag.sqlstate[:2] in _VALUE_FREE_CLASSES and diag.message_primary:
        says = diag.message_primary
        kept[DiagnosticField.MESSAGE_PRIMARY] = says.encode()
    about = [f"SQLSTATE {diag.sqlstate}"]
    for noun, name in (
        ("table", diag.table_name),
        ("column", diag.column_name),
        ("constraint", diag.constraint_name),
    ):
        if name:
            about.append(f"{noun} {name}")
    # info is a mapping of the same fields in the wire's encoding, as when an error is unpickled.
    psycopg.Error.__init__(error, f"{says} ({', '.join(about)})", info=kept)


def _withhold_clients_words(error: psycopg.DataError) -> None:
    """The driver quotes what it cannot read or write, and so do the causes of that."""
    said = str(error)
    if said not in _CLIENTS_VALUE_FREE:
        said = "the driver cannot read or write a value of this type"
    psycopg.Error.__init__(error, said)
    error.__cause__ = error.__context__ = None


def withhold_conversion(error: StatementError, cause: Exception) -> None:
    """Takes out of both, in place, the value that could not be made fit for the database."""
    said = "a value does not fit the type of its column"
    cause.args = (said,)
    cause.__cause__ = cause.__context__ = None
    error.params = None
    error.args = (f"({type(cause).__name__}) {said}",)


def withhold_parameters(error: DBAPIError) -> None:
    """Takes statement parameters out of `error`, in place, and retells its cleaned cause."""
    error.params = None
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        error.args = (f"({type(cause).__module__}.{type(cause).__qualname__}) {cause}",)


def timed_out(error: psycopg.Error) -> DatabaseProblem | None:
    """What `error` says of a limit of its session's; None where it says nothing of one."""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return LockHeld(
            "a row or a table that is needed here was locked by another transaction for too long. "
            "Try again; pg_locks says who holds it."
        )
    if isinstance(error, psycopg.errors.QueryCanceled):
        return StatementTimeout(
            "the server ended a statement that took longer than its session may. Try again; give "
            "what takes long by design a limit of its own: tenant_session(limits=...)."
        )
    if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
        return IdleTransaction(
            "the server ended a connection whose transaction had been idle for longer than its "
            "session may. Do what is slow and no SQL outside the session, and try again."
        )
    if isinstance(error, psycopg.errors.TransactionTimeout):
        return transaction_timeout()
    return None


def transaction_timeout() -> TransactionTimeout:
    """Says that a transaction took too long, whoever ended it."""
    return TransactionTimeout(
        "a transaction took longer than its session may, and was ended. Do less in one, or give "
        "what takes long by design a limit of its own: tenant_session(limits=...)."
    )


ROW_ERRORS: Final = (DBAPIError, StatementTimeout)
"""How a statement fails that one row may be too much for."""


def is_of_a_row(error: DBAPIError | StatementTimeout) -> bool:
    """Whether what a row holds may be the reason, so that the statement may succeed for others."""
    if isinstance(error, StatementTimeout):
        return True
    cause = error.orig
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith(_OF_A_ROW)


def kind_of(error: DBAPIError | StatementTimeout) -> str:
    """What a log line calls `error`."""
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__


def refused_by_policy(error: psycopg.Error) -> bool:
    """Whether row-level security refused a row that would have become another tenant's."""
    return error.diag.source_function == ROW_POLICY_CHECK and error.sqlstate == "42501"


def is_lock_held(error: BaseException) -> bool:
    """Whether `error` says that a lock was waited for in vain."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, LockHeld | psycopg.errors.LockNotAvailable)


def unreachable(url: URL, error: Exception) -> DatabaseUnreachable:
    """Names the database of `url`, without its password, and the first line of why."""
    reason = str(error).strip().splitlines()
    return DatabaseUnreachable(
        f"the database {url.host or 'localhost'}:{url.port or 5432}/{url.database} does not answer "
        f"{url.username}: {reason[0] if reason else type(error).__name__}. "
        "Start it, or correct its URL."
    )
