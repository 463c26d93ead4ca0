"""Listens for notifications of new messages."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import psycopg

from temporal_tenancy.control_plane.admission import CHANNEL
from temporal_tenancy.postgres.database_urls import (
    CONNECT_TIMEOUT,
    KEEPALIVE_IDLE,
    connect_arguments,
    database_url,
)
from temporal_tenancy.postgres.secret_texts import hidden

AGAIN_AFTER: Final = (0.1, 0.5, 1.0, 5.0)  # seconds between attempts to connect; the last repeats
TCP_USER_TIMEOUT: Final = 30_000  # ms that sent data may stay unacknowledged
_OPTIONS: Final[dict[str, Any]] = {
    "autocommit": True,
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "temporal-tenancy relay (listening)",
    "keepalives_idle": KEEPALIVE_IDLE,
    "tcp_user_timeout": TCP_USER_TIMEOUT,
}

log: Final = logging.getLogger(__name__)


async def listen(url: str, wake: asyncio.Event) -> None:
    """Sets `wake` whenever messages are committed, until cancelled.

    Also sets it after each new connection, because notifications sent while disconnected are lost.
    The relay polls as well, so this only shortens the delay. `url` must name the server itself: a
    transaction pooler does not forward notifications.
    """
    url = hidden(url)
    target = database_url(url)
    failed = 0
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(
                **connect_arguments(target) | _OPTIONS,
            )
            async with connection:
                await connection.execute(f"listen {CHANNEL}")
                wake.set()
                if failed:
                    log.info("relay.listening_again")
                failed = 0
                async for _ in connection.notifies():
                    wake.set()
        except psycopg.Error as error:
            if failed == 0:
                log.warning("relay.not_listening", extra={"error_type": type(error).__name__})
            await asyncio.sleep(AGAIN_AFTER[min(failed, len(AGAIN_AFTER) - 1)])
            failed += 1
