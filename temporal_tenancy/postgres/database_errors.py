"""Database errors, without the values of rows and without credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.pq import DiagnosticField
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, StatementError

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.problems import Problem
from temporal_tenancy.postgres.silent_servers import SILENT

MAKE_THE_ROLE: Final = "Make the role with this password, or correct its URL."
ROW_POLICY_CHECK: Final = "ExecWithCheckOptions"  # the server function that refuses a foreign row

# The SQLSTATE classes whose message names only schema objects and settings. In other classes (bad
# data, failed checks, errors raised by triggers and functions) it may quote the row.
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

NUL: Final = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
_CLIENTS_VALUE_FREE: Final = frozenset({NUL, "cannot dump a recursive list"})
# SQLSTATE prefixes of errors that one row can cause in a statement that works for other rows: its
# data is invalid (22) or breaks a constraint (23), is too large for the server (53200, 54), takes
# too long (57014), or triggers an internal error (XX).
_OF_A_ROW: Final = ("22", "23", "53200", "54", "57014", "XX")


class DatabaseProblem(Problem):
    """The database cannot be used as it is."""


class DatabaseUnreachable(DatabaseProblem):
    """The database does not answer, or refuses this role. A later attempt may succeed."""

    role: str | None = None  # that could not log in
    of_store: bool = False  # of a store's own database, not of the control plane's


class LockHeld(DatabaseProblem):
    """Another transaction held a needed lock for too long. A later attempt may succeed."""


class StatementTimeout(DatabaseProblem):
    """A statement took longer than its session's limit. A later attempt may succeed."""


class IdleTransaction(DatabaseProblem):
    """A transaction was idle for longer than its session's limit; its connection was closed."""


class TransactionTimeout(DatabaseProblem):
    """A transaction took longer than its session's limit; its connection was closed."""


class PoolShareExceeded(DatabaseProblem):
    """A session inside another one needs a connection, and the tenant may hold no more."""


class PoolShareInUse(DatabaseProblem):
    """A tenant's own work uses all connections that it may have, and makes no progress."""


class PoolExhausted(DatabaseProblem):
    """Other tenants' work uses all connections of this process."""


class MigrationsBehind(DatabaseProblem):
    """The database lacks migrations that the code needs."""


class MigrationBlocked(DatabaseProblem):
    """A migration could not get its locks: other transactions held them on every try."""


class ExcessRights(DatabaseProblem):
    """A runtime role has more rights than it needs."""


class RowsHidden(ConfigurationError):
    """A migration needs rows that row-level security hides from the owner."""


class InstallationElsewhere(ConfigurationError):
    """The library's tables are in another schema than the one that is named."""


@contextmanager
def values_withheld() -> Iterator[None]:
    """Applies `withhold_values` to the driver's errors that leave the block."""
    try:
        yield
    except psycopg.Error as error:
        withhold_values(error)
        raise


def withhold_values(error: psycopg.Error) -> None:
    """Removes from `error`, in place, all that may quote a row: detail, hint, context and message.

    What identifies the failure stays, in the text and in `error.diag`: the class, the SQLSTATE, and
    the table, column and constraint. The change is in place because the driver's error remains the
    cause of any error raised from it, and tracebacks print causes.
    """
    diag = error.diag
    if diag.sqlstate is None:
        if isinstance(error, psycopg.DataError):
            _withhold_clients_words(error)
        return  # the driver's other errors quote no row
    kept: dict[int, bytes | None] = {
        field: value.encode()
        for field in _VALUE_FREE_FIELDS
        if (value := getattr(diag, field.name.lower(), None)) is not None
    }
    message = type(error).__name__
    if diag.sqlstate[:2] in _VALUE_FREE_CLASSES and diag.message_primary:
        message = diag.message_primary
        kept[DiagnosticField.MESSAGE_PRIMARY] = message.encode()
    details = [f"SQLSTATE {diag.sqlstate}"]
    for noun, name in (
        ("table", diag.table_name),
        ("column", diag.column_name),
        ("constraint", diag.constraint_name),
    ):
        if name:
            details.append(f"{noun} {name}")
    # `info` maps fields to their encoded values, as psycopg itself does to pickle an error.
    psycopg.Error.__init__(error, f"{message} ({', '.join(details)})", info=kept)


def _withhold_clients_words(error: psycopg.DataError) -> None:
    """Removes the value that the driver could not read or write from `error`, and its causes."""
    message = str(error)
    if message not in _CLIENTS_VALUE_FREE:
        message = "the driver cannot read or write a value of this type"
    psycopg.Error.__init__(error, message)
    error.__cause__ = error.__context__ = None


def withhold_conversion(error: StatementError, cause: Exception) -> None:
    """Removes from both errors, in place, the value that could not be converted."""
    message = "a value does not fit the type of its column"
    cause.args = (message,)
    cause.__cause__ = cause.__context__ = None
    error.params = None
    error.args = (f"({type(cause).__name__}) {message}",)


def withhold_parameters(error: DBAPIError) -> None:
    """Removes the statement's parameters from `error`, in place, and takes over its cause's text.

    The cause must have gone through `withhold_values` already.
    """
    error.params = None
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        error.args = (f"({type(cause).__module__}.{type(cause).__qualname__}) {cause}",)


# It fits each way to open a tenant's transaction: all of them take limits.
_OWN_LIMITS: Final = "give work that is slow by design its own: open its transaction with limits=."
_TRANSACTION_TIMEOUT: Final = "25P04"  # an SQLSTATE that not every psycopg has a class for


def timed_out(error: psycopg.Error) -> DatabaseProblem | None:
    """Returns the problem to raise for a session limit that `error` reports, or None."""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return LockHeld(
            "a row or table that this needs was locked by another transaction for too long. "
            "Try again; pg_locks shows who holds it."
        )
    if isinstance(error, psycopg.errors.QueryCanceled):
        return StatementTimeout(
            "the server ended a statement that took longer than its session allows. Try again; "
            f"{_OWN_LIMITS}"
        )
    if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
        return idle_transaction()
    if error.diag.sqlstate == _TRANSACTION_TIMEOUT:
        return transaction_timeout()
    return None


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection was lost without a word of the server.

    The server says which limit ended a connection before it closes it, but a statement that is sent
    at that moment can lose its words.
    """
    return isinstance(error, psycopg.OperationalError) and error.diag.sqlstate is None


def idle_transaction() -> IdleTransaction:
    """Returns the error for a transaction that was idle for too long."""
    return IdleTransaction(
        "the server closed a connection whose transaction was idle for longer than its "
        "session allows. Move slow work without SQL out of the session, and try again."
    )


def transaction_timeout() -> TransactionTimeout:
    """Returns the error for a transaction that took too long, whether server or client ended it."""
    return TransactionTimeout(
        f"a transaction took longer than its session allows, and was ended. Do less in one, or "
        f"{_OWN_LIMITS}"
    )


RowError = DBAPIError | StatementTimeout | psycopg.Error
ROW_ERRORS: Final = (DBAPIError, StatementTimeout, psycopg.Error)
"""The errors that a single row can cause; see `is_of_a_row`."""


def is_of_a_row(error: RowError) -> bool:
    """Whether one row's data may be the cause, so that the statement may succeed for other rows."""
    if isinstance(error, StatementTimeout):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith(_OF_A_ROW)


def kind_of(error: RowError) -> str:
    """The name of `error` in logs: the driver's class name, or the type of the timeout."""
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__


def refused_by_policy(error: psycopg.Error) -> bool:
    """Whether row-level security refused to write a row of another tenant."""
    return error.diag.source_function == ROW_POLICY_CHECK and error.sqlstate == "42501"


def is_lock_held(error: BaseException) -> bool:
    """Whether `error` means that a statement gave up waiting for a lock."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, LockHeld | psycopg.errors.LockNotAvailable)


def unreachable(url: URL, error: Exception) -> DatabaseUnreachable:
    """Returns an error that names `url`'s database, without the password, and why it failed."""
    reason = str(error).strip().splitlines()
    problem = DatabaseUnreachable(
        f"the database {url.host or 'localhost'}:{url.port or 5432}/{url.database} does not answer "
        f"{url.username}: {reason[0] if reason else type(error).__name__}. "
        f"{_what_to_do(reason[0] if reason else '')}"
    )
    problem.role = url.username
    return problem


# Why a server that has answered did not let a store's login in.
_OF_A_URL: Final = ("the password or the role", "no such database or role")


def rejection(error: psycopg.Error) -> str | None:
    """Returns why a server lets nobody in, in words of our own: the driver's name host and role.

    None: it did not say so, and may not be there.
    """
    text = str(error)
    if "authentication failed" in text or "no password supplied" in text:
        return "refused the password or the role of its URL"
    if "does not exist" in text:
        return "has no such database or role"
    if "too many clients" in text or "connection slots" in text or "too many connections" in text:
        return "has no connection left"
    return None


def store_unreachable(store: str | None, why: str) -> DatabaseUnreachable:
    """Returns an error that names the store, and nothing of its URL; `why` follows the name."""
    named = "a store" if store is None else f'the store "{store}"'
    what = "Start its server, or correct its URL in the secret store."
    if any(words in why for words in _OF_A_URL):
        what = "Correct its URL in the secret store."
    problem = DatabaseUnreachable(f"{named} {why}. Only its tenants have to wait. {what}")
    problem.of_store = True
    return problem


# What PgBouncer says, and what to do then.
_OF_A_POOLER: Final = {
    "in statement pooling mode": "Set pool_mode = transaction in the pooler's configuration.",
    "query_wait_timeout": "All the pooler's connections are in use: raise its default_pool_size.",
    "unsupported startup parameter": "Take that option out of the URL.",
}


def _what_to_do(reason: str) -> str:
    """Returns the advice for a failed login; a server that has answered is not to be started."""
    if "authentication failed" in reason or 'role "' in reason:
        return MAKE_THE_ROLE
    if reason == SILENT:
        return "Look at its log, and restart it."
    if 'database "' in reason:
        return "Create the database, or correct its URL."
    advice = (what for said, what in _OF_A_POOLER.items() if said in reason)
    return next(advice, "Start it, or correct its URL.")
