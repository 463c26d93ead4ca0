"""Lists the stores and drains them, as the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, case, exists, func, select, update

from temporal_tenancy.control_plane.tables import StoreRow, StoreState, TenantRow
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.stores._names import unknown_store
from temporal_tenancy.stores.errors import StoreNotReady


@dataclass(frozen=True)
class KnownStore:
    """A store as the control plane knows it."""

    name: str
    isolation: Isolation
    state: StoreState
    state_since: datetime
    created_at: datetime
    schema: str | None  # of a schema store
    secret: str | None  # of a database store: the name of its connections in the secret store
    region: str | None
    capacity: int | None  # tenants
    tenants: tuple[str, ...]  # ids


class Stores:
    """The table `stores`. Every method runs as the platform."""

    def __init__(self, database: Database) -> None:
        """
        Args:
            database: the one with the control plane's tables.
        """
        self._database = database

    async def list(
        self, *, isolation: Isolation | None = None, state: StoreState | None = None
    ) -> Sequence[KnownStore]:
        """Returns the stores in order of their names, without the shared one."""
        query = _stores().order_by(StoreRow.name)
        if isolation is not None:
            query = query.where(StoreRow.isolation == isolation)
        if state is not None:
            query = query.where(StoreRow.state == state)
        async with self._database.platform_session("list stores") as session:
            return [_known(*row) for row in await session.execute(query)]

    async def show(self, name: str) -> KnownStore:
        """Returns one store; raises `StoreUnknown`."""
        query = _stores().where(StoreRow.name == name)
        async with self._database.platform_session("show a store") as session:
            row = (await session.execute(query)).one_or_none()
        if row is None:
            raise unknown_store(name)
        return _known(*row)

    async def drain(self, name: str) -> KnownStore:
        """Lets a store take no more tenants; those that it has stay. Safe to repeat.

        Raises:
            StoreUnknown: there is no such store.
            StoreNotReady: it is still being prepared.
        """
        async with self._database.platform_session("drain a store") as session:
            await session.execute(
                update(StoreRow)
                .where(
                    StoreRow.name == name,
                    StoreRow.state.in_([StoreState.READY, StoreState.ACTIVE]),
                )
                .values(state=StoreState.DRAINING, state_since=func.now())
            )
        return await self._prepared(name)

    async def undrain(self, name: str) -> KnownStore:
        """Lets a drained store take tenants again, up to its capacity. Safe to repeat.

        Raises:
            StoreUnknown: there is no such store.
            StoreNotReady: it is still being prepared.
        """
        has_tenants = exists().where(TenantRow.store == StoreRow.name)
        async with self._database.platform_session("let a store take tenants again") as session:
            await session.execute(
                update(StoreRow)
                .where(StoreRow.name == name, StoreRow.state == StoreState.DRAINING)
                .values(
                    state=case((has_tenants, StoreState.ACTIVE), else_=StoreState.READY),
                    state_since=func.now(),
                )
            )
        return await self._prepared(name)

    async def _prepared(self, name: str) -> KnownStore:
        store = await self.show(name)
        if store.state is StoreState.PREPARING:
            raise StoreNotReady(
                f"the store {name} is being prepared, and takes no tenant yet. Prepare it again, "
                "or remove it."
            )
        return store


def _stores() -> Select[StoreRow, list[str]]:
    tenants = (
        select(func.array_agg(TenantRow.id.distinct()))
        .where(TenantRow.store == StoreRow.name)
        .correlate(StoreRow)
        .scalar_subquery()
    )
    return select(StoreRow, tenants)


def _known(row: StoreRow, tenants: Sequence[str] | None) -> KnownStore:
    return KnownStore(
        name=row.name,
        isolation=Isolation(row.isolation),
        state=StoreState(row.state),
        state_since=row.state_since,
        created_at=row.created_at,
        schema=row.schema,
        secret=row.secret,
        region=row.region,
        capacity=row.capacity,
        tenants=tuple(sorted(tenants or ())),
    )
