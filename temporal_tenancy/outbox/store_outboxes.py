"""Asks the outboxes of tenants in databases of their own, each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.errors import StoreMismatch
from temporal_tenancy.outbox.relay.store_outbox import (
    StoreOutbox,
    store_outbox_database,
    stores_with_outboxes,
    why_away,
)
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.stores.secrets import RELAY, ConnectionSecrets, secret_name

AT_ONCE: Final = 8  # stores

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Asked(Generic[Answer]):
    """What a store has answered, or why it has not."""

    store: str
    tenant_id: str
    answer: Answer | None
    why: str | None  # a sentence without anything of its URL; None: it has answered


async def ask_stores(
    control: Database,
    secrets: ConnectionSecrets | None,
    ask: Callable[[AsyncSession], Awaitable[Answer]],
    *,
    tenant_id: str | None = None,
    installation: Installation | None = None,
) -> Sequence[Asked[Answer]]:
    """Asks each tenant's own database as the relay's role; one that is away delays no other.

    Args:
        control: with the control plane, as the platform's role or the relay's.
        secrets: has the stores' connections; None: no store can be asked.
        ask: what to ask in a session of a store.
        tenant_id: of whose store; None: of all tenants.
        installation: as for `Database`.

    Returns:
        The answers in the order of the stores' names.
    """
    async with control.platform_session("list stores with an outbox") as session:
        stores = await stores_with_outboxes(session)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, tenant: str, secret: str) -> Asked[Answer]:
        if secrets is None:
            return Asked(name, tenant, None, _NO_SECRETS.format(name=name))
        async with slots:
            database: Database | None = None
            try:
                url = await secrets.url(secret_name(secret, RELAY))
                database = store_outbox_database(url, installation)
                outbox = StoreOutbox(name, tenant, database, control)
                async with outbox.platform_session("ask a store's outbox") as session:
                    return Asked(name, tenant, await ask(session), None)
            except (DatabaseProblem, DBAPIError, StoreMismatch, ValueError) as error:
                return Asked(name, tenant, None, why_away(name, error))
            finally:
                if database is not None:
                    await database.dispose()

    return await asyncio.gather(
        *(
            one(store.name, store.tenant_id, store.secret)
            for store in stores
            if tenant_id in (None, store.tenant_id)
        )
    )


_NO_SECRETS: Final = (
    'the store "{name}" cannot be reached, because no secret store is set that has its '
    "connection. Name the folder with the connections of stores."
)
