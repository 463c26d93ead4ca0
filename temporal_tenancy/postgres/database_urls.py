"""URLs of databases, and how long to wait for the server behind one."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.secret_texts import hidden

DRIVER: Final = "postgresql+psycopg"
CONNECT_TIMEOUT: Final = 10  # seconds
KEEPALIVE_IDLE: Final = 30  # seconds without traffic until the first TCP keepalive
KEEPALIVE_INTERVAL: Final = 10  # seconds
KEEPALIVE_COUNT: Final = 3  # unanswered keepalives until the connection counts as lost


def database_url(url: str) -> URL:
    """Returns `url` with the psycopg 3 driver; accepts `postgresql://` and `postgres://` too.

    Raises:
        ConfigurationError: `url` is not a PostgreSQL URL; the message does not quote it.
    """
    url = hidden(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("postgresql", "postgres", DRIVER):
        raise ConfigurationError(
            "a database URL has the form postgresql+psycopg://role:password@host:port/database. "
            "Correct it."
        ) from None
    return parsed.set(drivername=DRIVER)


def connect_arguments(target: URL) -> dict[str, Any]:
    """Returns what psycopg connects with: the same as SQLAlchemy gives it.

    A URL would not do: psycopg refuses one with a blank in the database's name.
    """
    _, arguments = target.get_dialect()().create_connect_args(target)
    return dict(arguments)
