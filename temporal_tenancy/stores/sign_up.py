"""Adds a tenant together with its place in a store: one transaction in the control plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.tables import StoreRow, StoreState
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.stores._identity import give_to
from temporal_tenancy.stores._names import require_region, unknown_store
from temporal_tenancy.stores.errors import (
    ConnectionSecretMissing,
    NoStoreFree,
    StoreDraining,
    StoreFull,
    StoreNotReady,
    StoreRefused,
    StoreUnreachable,
)
from temporal_tenancy.stores.placement import (
    FreeStore,
    NewTenant,
    Placement,
    PlacementPolicy,
)
from temporal_tenancy.stores.secrets import ConnectionSecrets

OFFERED: Final = 20  # stores of each region that a policy chooses from

# Random among the free ones, so that sign-ups at once seldom want the same.
_FREE: Final = library_text("""
    with regions as (
        select region, avg((state <> 'ready')::int)::float as in_use
        from tenancy.stores
        where isolation = :isolation and state <> 'preparing'
        group by region
    ),
    free as (
        select
            stores.name, stores.region, regions.in_use,
            row_number() over (partition by stores.region order by random()) as place
        from tenancy.stores as stores
        join regions on regions.region is not distinct from stores.region
        where stores.isolation = :isolation and stores.state = 'ready'
            and stores.name <> all(:excluded)
    )
    select name, region, in_use from free where place <= :offered order by name
""")

_DRAINED: Final = library_text("""
    select name from tenancy.stores as stores
    where isolation = :isolation and state = 'draining'
        and (cast(:region as text) is null or region = :region)
        and not exists (select from tenancy.tenants where store = stores.name)
    order by name
    limit 1
""")


@dataclass(frozen=True)
class SignUp:
    """Adds tenants, each with the store that the policy chooses, or a person.

    Args:
        database: the one with the control plane's tables.
        secrets: has the connections of stores in other databases; None: there are none.
        policy: chooses the isolation and the store.
    """

    database: Database
    secrets: ConnectionSecrets | None = None
    policy: PlacementPolicy = field(default_factory=Placement)

    async def add(
        self,
        tenant_id: str,
        name: str,
        *,
        plan: str,
        isolation: Isolation | None = None,
        store: str | None = None,
        region: str | None = None,
        status: TenantStatus = TenantStatus.ACTIVE,
        features: Iterable[str] = (),
        time_zone: str = "UTC",
        settings: Mapping[str, Any] | None = None,  # JSON
        trial_ends_at: datetime | date | None = None,
    ) -> Tenant:
        """Adds a tenant and returns it; after an error, nothing has been added.

        Args:
            tenant_id: as for `Tenants.add`, and so are the arguments that are not named here.
            name: likewise.
            plan: likewise.
            isolation: how its rows are kept; None: what the store is, or as the policy says.
            store: the store that it gets; None: the policy chooses.
            region: where its rows are to be; None: anywhere. If the policy chooses the shared
                store, it does not count.
            status: as for `Tenants.add`.
            features: likewise.
            time_zone: likewise.
            settings: likewise.
            trial_ends_at: likewise.

        Raises:
            StoreUnknown: there is no such store.
            StoreNotReady, StoreDraining, StoreFull: the store takes no tenant.
            StoreRefused: it has another isolation or region, or `region` cannot be one.
            NoStoreFree: no prepared store fits.
            StoreUnreachable: the store, or each one that fits, does not answer.
            ConnectionSecretMissing: the secret store lacks the store's connection.
            TenancyError: as for `Tenants.add`.
        """
        require_region(region)
        new = NewTenant(tenant_id, plan, region)

        async def place(session: AsyncSession) -> tuple[Isolation, str | None]:
            if store == SHARED_STORE:
                _require_isolation(store, Isolation.SHARED, isolation)
                _refuse_region(region)
                return Isolation.SHARED, None
            if store is not None:
                row = await _locked(session, store)
                _require_isolation(store, Isolation(row.isolation), isolation)
                _require_region(row, region)
                _require_free(row)
                await self._take(session, row, tenant_id)
                return Isolation(row.isolation), row.name
            if isolation is Isolation.SHARED:
                _refuse_region(region)
            chosen = isolation or self.policy.isolation_of(new)
            if chosen is Isolation.SHARED:
                return chosen, None
            return chosen, await self._first_that_answers(session, new, chosen)

        return await Tenants(self.database).add(
            tenant_id,
            name,
            plan=plan,
            status=status,
            features=features,
            time_zone=time_zone,
            settings=settings,
            trial_ends_at=trial_ends_at,
            placing=place,
        )

    async def _first_that_answers(
        self, session: AsyncSession, new: NewTenant, isolation: Isolation
    ) -> str:
        """Takes one of the free stores, and returns its name."""
        excluded: list[str] = []
        unreachable: StoreUnreachable | ConnectionSecretMissing | None = None
        while (
            chosen := self.policy.choose(new, await _free(session, isolation, excluded))
        ) is not None:
            excluded.append(chosen.name)
            row = await session.get(
                StoreRow, chosen.name, with_for_update={"skip_locked": True}, populate_existing=True
            )
            if row is None or row.state != StoreState.READY:
                continue  # another tenant was faster
            try:
                await self._take(session, row, new.id)
            except (StoreUnreachable, ConnectionSecretMissing) as error:
                unreachable = error
            else:
                return chosen.name
        if unreachable is not None:
            raise unreachable
        where = "" if new.region is None else f" in the region {new.region}"
        values = {"isolation": isolation, "region": new.region}
        drained: str | None = await session.scalar(_DRAINED, values)
        raise NoStoreFree(
            f"no prepared {isolation} store{where} is free for {new.id}. "
            + (
                "Prepare one, and try again."
                if drained is None
                else f"{drained} is empty but drained: let it take tenants, or prepare another."
            )
        )

    async def _take(self, session: AsyncSession, row: StoreRow, tenant_id: str) -> None:
        await give_to(session, row, tenant_id, self.secrets)
        await session.execute(
            update(StoreRow)
            .where(StoreRow.name == row.name)
            .values(state=StoreState.ACTIVE, state_since=text("now()"))
        )


async def _free(
    session: AsyncSession, isolation: Isolation, excluded: Sequence[str]
) -> list[FreeStore]:
    rows = await session.execute(
        _FREE, {"isolation": isolation, "excluded": list(excluded), "offered": OFFERED}
    )
    return [FreeStore(row.name, isolation, row.region, row.in_use) for row in rows]


async def _locked(session: AsyncSession, name: str) -> StoreRow:
    row = await session.get(StoreRow, name, with_for_update=True, populate_existing=True)
    if row is None:
        raise unknown_store(name)
    return row


def _require_isolation(name: str, has: Isolation, wanted: Isolation | None) -> None:
    if wanted is not None and wanted is not has:
        raise StoreRefused(
            f"the store {name} is a {has} store, not {wanted}. Choose another store, or leave the "
            "isolation out."
        )


def _require_region(row: StoreRow, wanted: str | None) -> None:
    if wanted is not None and row.region != wanted:
        raise StoreRefused(
            f"the store {row.name} is in {row.region or 'no region'}, not in {wanted}. Choose "
            "another store, or leave the region out."
        )


def _refuse_region(wanted: str | None) -> None:
    if wanted is not None:
        raise StoreRefused(
            f"the {SHARED_STORE} store is in no region, so not in {wanted}. Choose another "
            "isolation, or leave the region out."
        )


def _require_free(row: StoreRow) -> None:
    if row.state == StoreState.PREPARING:
        raise StoreNotReady(
            f"the store {row.name} is being prepared, or its preparation has failed. Prepare it "
            "again, or choose another one."
        )
    if row.state == StoreState.DRAINING:
        raise StoreDraining(f"the store {row.name} takes no more tenants. Choose another one.")
    if row.state != StoreState.READY:
        raise StoreFull(f"the store {row.name} has its tenant already. Choose another one.")
