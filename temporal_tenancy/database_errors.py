"""What can go wrong with the database, told without any row's values or any credentials."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.pq import DiagnosticField
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

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
        return  # the client's own words: no row is in them
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


def withhold_parameters(error: DBAPIError) -> None:
    """Takes statement parameters out of `error`, in place, and retells its cleaned cause."""
    error.params = None
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        error.args = (f"({type(cause).__module__}.{type(cause).__qualname__}) {cause}",)


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
