"""Says in a store whose it is, as the platform, when it is given to a tenant."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import StoreRow
from temporal_tenancy.postgres.database_errors import rejection
from temporal_tenancy.postgres.database_urls import connect_arguments, database_url
from temporal_tenancy.postgres.installation import IDENTITY, PUBLIC, quoted
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.errors import ConnectionSecretMissing, StoreRefused, StoreUnreachable
from temporal_tenancy.stores.secrets import PLATFORM, ConnectionSecrets, secret_name

CONNECT_TIMEOUT: Final = 3  # seconds; a person waits, and there may be another store
STATEMENT_TIMEOUT: Final = 3_000  # milliseconds
_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "temporal-tenancy stores",
}


async def give_to(
    session: AsyncSession, store: StoreRow, tenant_id: str, secrets: ConnectionSecrets | None
) -> None:
    """Writes whose the store is; the caller has locked its row, and it is nobody's.

    In the control plane's own database it is part of the session's transaction. In another one it
    is committed before: if that transaction fails, the next tenant of the store overwrites it.

    Raises:
        StoreUnreachable: the store's server does not answer, or refuses the platform's role.
        StoreRefused: what is there is another store.
        ConnectionSecretMissing: the secret store lacks the store's connection.
    """
    values = {"store": store.name, "tenant_id": tenant_id}
    if store.schema is not None:
        written = await session.scalar(text(_statement(store.schema, ":{}")), values)
    elif store.secret is not None:
        if secrets is None:
            raise ConnectionSecretMissing(
                f'this process has no secret store, and the connection "{store.secret}" is in one.'
            )
        url = await secrets.url(secret_name(store.secret, PLATFORM))
        written = await _send(store.name, url, values)
    if written != store.name:
        raise StoreRefused(
            f"what is at the place of the store {store.name} says that it is another store. "
            "Correct its connection, or remove it."
        )


def _statement(schema: str, parameter: str) -> str:
    store, tenant = parameter.format("store"), parameter.format("tenant_id")
    return (
        f"update {quoted(schema)}.{IDENTITY} set tenant_id = {tenant} "  # noqa: S608
        f"where store = {store} returning store"
    )


async def _send(name: str, url: str, values: dict[str, str]) -> str | None:
    target = database_url(hidden(url))
    try:
        connection = await psycopg.AsyncConnection.connect(**connect_arguments(target) | _OPTIONS)
        async with connection:
            # Local to the transaction: behind a pooler, another client gets the connection next.
            await connection.execute(f"set local statement_timeout = {STATEMENT_TIMEOUT}".encode())
            statement = _statement(PUBLIC, "%({})s")
            found = await (await connection.execute(statement.encode(), values)).fetchone()
    except psycopg.OperationalError as error:
        # The driver's message has no password, but the host, which nobody at sign-up needs.
        reason = type(error).__name__ if error.sqlstate is None else f"SQLSTATE {error.sqlstate}"
        why = rejection(error) or f"does not answer ({reason})"
        raise StoreUnreachable(
            f"the store {name} {why}. Start its server, or correct its connection in the secret "
            "store."
        ) from None
    return None if found is None else str(found[0])
