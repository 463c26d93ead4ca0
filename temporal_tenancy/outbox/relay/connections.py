"""The database connections of a relay."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.outbox.relay._server_settings import SERVER_SETTINGS
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.secret_texts import hidden

APPLICATION_NAME: Final = "temporal-tenancy relay"  # in `pg_stat_activity`; doctor looks for it
CONNECTIONS: Final = 8  # one for each task that a relay runs concurrently


def relay_database(url: str, installation: Installation | None = None) -> Database:
    """Returns a database with the server settings and the pool size that a relay needs.

    `url` is for the role `tenancy_relay`; `installation` is as for `Database`. Does not connect.
    Raises `ConfigurationError` if `url` is not a PostgreSQL URL.
    """
    url = hidden(url)
    return Database(
        platform_url=url,
        platform_pool_size=CONNECTIONS,
        application_name=APPLICATION_NAME,
        platform_settings=SERVER_SETTINGS,
        installation=installation,
    )
