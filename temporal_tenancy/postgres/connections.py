"""One plain connection, for migrations and for checks that are made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from temporal_tenancy.postgres.database import CONNECT_TIMEOUT, database_url
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, unreachable

APPLICATION_NAME: Final = "temporal-tenancy migrations"


@contextmanager
def connect(url: str) -> Iterator[psycopg.Connection[Any]]:  # rows are of many shapes
    """Opens a connection in autocommit, and closes it at the end of the block.

    Raises:
        ConfigurationError: `url` is not one of PostgreSQL.
        DatabaseUnreachable: the server does not answer, or not to this role.
    """
    target = database_url(url)
    try:
        connection = psycopg.connect(
            target.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            application_name=APPLICATION_NAME,
        )
    except psycopg.OperationalError as error:
        raise unreachable(target, error) from None
    with connection:
        yield connection


def answers(url: str) -> bool:
    """Whether the database lets its role in. It blocks, until the connection is open or refused."""
    try:
        with connect(url):
            return True
    except DatabaseUnreachable:
        return False
