"""Single connections without a pool or a guard, for migrations and one-off checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, unreachable
from temporal_tenancy.postgres.database_urls import (
    CONNECT_TIMEOUT,
    connect_arguments,
    database_url,
)
from temporal_tenancy.postgres.installation import quoted
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.silent_servers import silence_watch

APPLICATION_NAME: Final = "temporal-tenancy migrations"
# An encoding that says nothing about its text: the driver then returns bytes for it.
NO_ENCODING: Final = "SQL_ASCII"
_OPTIONS: Final[dict[str, Any]] = {
    "autocommit": True,
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": APPLICATION_NAME,
}


@contextmanager
def connect(url: str) -> Iterator[psycopg.Connection[Any]]:  # rows are of many shapes
    """Opens a connection in autocommit mode, and closes it at the end of the block.

    Raises:
        ConfigurationError: `url` is not a PostgreSQL URL, or has an unknown option, or the database
            has no encoding.
        DatabaseUnreachable: the server did not answer, or refused this role; in a command also:
            the connection was lost, or the server stayed silent.
    """
    url = hidden(url)
    target, watch = database_url(url), silence_watch()
    if watch is not None and (reason := watch.reason(target)):
        raise unreachable(target, psycopg.OperationalError(reason))
    try:
        connection = psycopg.connect(
            **connect_arguments(target) | _OPTIONS,
        )
    except psycopg.OperationalError as error:
        if watch is not None and isinstance(error, psycopg.errors.ConnectionTimeout):
            watch.note(target, str(error))
        raise unreachable(target, error) from None
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"the database URL of {target.username} has an option that PostgreSQL does not know: "
            f"{str(error).strip()}. Correct it."
        ) from None
    if watch is not None:
        watch.watch(connection, target)
    with connection:
        _refuse_no_encoding(connection)
        try:
            yield connection
        except (psycopg.OperationalError, DBAPIError) as error:
            if watch is None or not connection.broken:
                raise
            reason = watch.reason(target)
            lost = error if reason is None else psycopg.OperationalError(reason)
            raise unreachable(target, getattr(lost, "orig", lost)) from None


async def answers_soon(url: str) -> bool:
    """As `answers`, for a task that a timeout cancels: then no thread goes on connecting."""
    target = database_url(hidden(url))
    connection = None
    try:
        connection = await psycopg.AsyncConnection.connect(
            **connect_arguments(target) | _OPTIONS,
        )
    except psycopg.Error:
        return False
    finally:
        if connection is not None:
            await connection.close()
    return True


def answers(url: str) -> bool:
    """Whether the database accepts a connection with `url`; blocks until it is open or refused.

    Raises `ConfigurationError` if `url` is not a PostgreSQL URL.
    """
    url = hidden(url)
    try:
        with connect(url):
            return True
    except DatabaseUnreachable:
        return False


def _refuse_no_encoding(connection: psycopg.Connection[Any]) -> None:
    """Refuses what `initdb` makes without a locale: texts would be bytes, and compare as such."""
    if connection.info.parameter_status("server_encoding") == NO_ENCODING:
        raise ConfigurationError(
            f"the database {connection.info.dbname} has the encoding {NO_ENCODING}, which says "
            "nothing about its text. Create it again in UTF-8: CREATE DATABASE "
            f"{quoted(connection.info.dbname)} TEMPLATE template0 ENCODING 'UTF8'."
        )
