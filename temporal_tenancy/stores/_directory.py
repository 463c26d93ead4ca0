"""Looks up in the control plane which store holds a tenant's rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select

from temporal_tenancy.control_plane.tables import StoreRow, TenantRow
from temporal_tenancy.core.directory import (
    STATE_CACHE_SECONDS,
    STATE_CACHE_TENANTS,
    placed_record_of_this_activity,
)
from temporal_tenancy.core.identifiers import may_exist
from temporal_tenancy.core.scope import _outside
from temporal_tenancy.core.stores import SHARED_STORE, Isolation, Store
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.stores.secrets import TENANT, ConnectionSecrets, secret_name

SHARED: Final = Store(SHARED_STORE)

_Answers = Mapping[str, StoreRow | None]  # by tenant; None: the shared store


@dataclass
class _Question:
    """A pending lookup that several callers share, and the task that answers it."""

    loop: asyncio.AbstractEventLoop
    tenant_ids: set[str]
    answer: asyncio.Task[_Answers] = field(init=False)


@dataclass
class ControlPlaneStores:
    """A `StoreDirectory` over the control plane; its answers are at most `seconds` old.

    It answers with the shared store only where the control plane says so.

    Args:
        database: the one with the control plane's tables.
        secrets: has the connections of stores in other databases; None: there are none.
        seconds: how long an answer is kept, 0 to 5.
        clock: returns the current time in seconds.

    Raises:
        ValueError: `seconds` is out of range.
    """

    database: Database
    secrets: ConnectionSecrets | None = None
    seconds: float = STATE_CACHE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, tuple[float, Store]] = field(default_factory=dict, init=False, repr=False)
    _asked: _Question | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= STATE_CACHE_SECONDS:
            raise ValueError(
                f"a tenant's store can be cached for 0 to {STATE_CACHE_SECONDS:.0f} s, "
                f"not {self.seconds} s."
            )

    async def store_of(self, tenant_id: str) -> Store:
        """As in `StoreDirectory`. Concurrent calls share one query.

        In a job of a tenant in the shared store it asks nothing: the job's record says so.

        Raises:
            TenantUnknown: there is no such tenant.
            ConnectionSecretMissing: the secret store lacks the store's connection.
            DatabaseUnreachable: the control plane does not answer.
        """
        if not may_exist(tenant_id):
            raise unknown(tenant_id)
        record = placed_record_of_this_activity(tenant_id)
        if record is not None and record.isolation is Isolation.SHARED:
            return SHARED
        known = self._found.get(tenant_id)
        if known is not None and self.clock() - known[0] < self.seconds:
            return known[1]
        now = self.clock()
        answers = await self._answers(tenant_id)
        if tenant_id not in answers:
            self._found.pop(tenant_id, None)
            raise unknown(tenant_id)
        row = answers[tenant_id]
        store = SHARED if row is None else await self._store(row)
        if len(self._found) >= STATE_CACHE_TENANTS:
            self._found.clear()
        before = self._found.get(tenant_id)
        if before is None or before[0] <= now:  # answers can arrive out of order
            self._found[tenant_id] = (now, store)
        return store

    async def _answers(self, tenant_id: str) -> _Answers:
        loop = asyncio.get_running_loop()
        question = self._asked
        if question is None or question.loop is not loop:
            question = self._asked = _Question(loop, {tenant_id})
            with _outside():  # the lookup serves several tenants, so it runs in no tenant's scope
                question.answer = loop.create_task(self._ask(question))
        question.tenant_ids.add(tenant_id)
        # If one caller is cancelled, the others still get the answer.
        return await asyncio.shield(question.answer)

    async def _ask(self, question: _Question) -> _Answers:
        await asyncio.sleep(0)  # lets other tasks that are ready join this lookup
        if self._asked is question:
            self._asked = None  # later calls start a new lookup
        return await self._look_up(question.tenant_ids)

    async def _look_up(self, tenant_ids: Collection[str]) -> _Answers:
        query = (
            select(TenantRow.id, StoreRow)
            .outerjoin(StoreRow, StoreRow.name == TenantRow.store)
            .where(TenantRow.id.in_(list(tenant_ids)))
        )
        async with self.database.platform_session("look up stores") as session:
            return {row[0]: row[1] for row in await session.execute(query)}

    async def _store(self, row: StoreRow) -> Store:
        return Store(
            name=row.name,
            isolation=Isolation(row.isolation),
            url=None if row.secret is None else await self._url(row.secret),
            schema=row.schema,
            role=row.role,
        )

    async def _url(self, secret: str) -> str:
        if self.secrets is None:
            raise ConnectionSecretMissing(no_secret_store(secret))
        return hidden(await self.secrets.url(secret_name(secret, TENANT)))


def no_secret_store(secret: str) -> str:
    """Returns why a process without a secret store does not reach a tenant's database."""
    return (
        f'this process has no secret store, and the connection "{secret}" is in one. Give it one, '
        "such as a folder."
    )
