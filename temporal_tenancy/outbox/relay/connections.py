"""A relay's own connections."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.outbox.relay.queue import SERVER_SETTINGS
from temporal_tenancy.postgres.database import Database

CONNECTIONS: Final = 8  # one for each thing that a relay does beside the others


def relay_database(url: str) -> Database:
    """A database as a relay has it: its settings of the server, and connections enough for it.

    `url` is of the role `tenancy_relay`; nothing is sent yet. Raises `ConfigurationError` where it
    is not one of PostgreSQL.
    """
    return Database(
        platform_url=url,
        platform_pool_size=CONNECTIONS,
        application_name="temporal-tenancy relay",
        platform_settings=SERVER_SETTINGS,
    )
