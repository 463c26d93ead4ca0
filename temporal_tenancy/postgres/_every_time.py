"""Reads timestamps that Python cannot represent: infinite ones, and years outside 1 to 9999."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import psycopg
from psycopg import abc, postgres
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)


def read_every_time(engine: Engine) -> None:
    """Makes connections of `engine` read out-of-range timestamps as `EARLIEST` or `LATEST`.

    The driver raises an error instead, which loses every other row of the same result.
    """
    event.listen(engine, "connect", _register)


def _register(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    driver = getattr(connection, "driver_connection", connection)
    assert isinstance(driver, psycopg.AsyncConnection | psycopg.Connection)
    driver.adapters.register_loader("timestamptz", _EveryTime)


@lru_cache  # each result asks
def _drivers_own(oid: int) -> type[abc.Loader]:
    own = postgres.adapters.get_loader(oid, Format.TEXT)
    assert own is not None
    return own


class _EveryTime(Loader):
    """Loads timestamps as the driver does, and clamps those that the driver rejects."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._own = _drivers_own(oid)(oid, context)

    def load(self, data: Buffer) -> datetime:
        try:
            moment: datetime = self._own.load(data)
        except psycopg.DataError:
            text = bytes(data)
            return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
        return moment
