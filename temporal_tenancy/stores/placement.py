"""Decides which prepared store a new tenant gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from temporal_tenancy.core.stores import Isolation


@dataclass(frozen=True)
class NewTenant:
    """What is known of a tenant that signs up."""

    id: str
    plan: str
    region: str | None  # where its rows are to be; None: anywhere


@dataclass(frozen=True)
class FreeStore:
    """A prepared store without a tenant."""

    name: str
    isolation: Isolation
    region: str | None
    region_in_use: float  # the share of the stores in its region that have a tenant, 0 to below 1


class PlacementPolicy(Protocol):
    """Decides where a new tenant's rows are. `Placement` is one; an application can have its own.

    It is called inside the transaction that adds the tenant, so it only decides: no input, no
    output.
    """

    def isolation_of(self, tenant: NewTenant) -> Isolation:
        """Returns how the rows of a tenant are kept, for which nobody has chosen it."""

    def choose(self, tenant: NewTenant, stores: Sequence[FreeStore]) -> FreeStore | None:
        """Returns one of `stores`, which have that isolation; None: none of them will do.

        If another tenant is faster, or the store does not answer, it is called again without it.
        """


@dataclass(frozen=True)
class Placement:
    """By plan and by region: the tenant's own region, or else the one that is least full.

    Args:
        isolations: the isolation of each plan.
        default: that of the other plans.
    """

    isolations: Mapping[str, Isolation] = field(default_factory=dict)
    default: Isolation = Isolation.SHARED

    def isolation_of(self, tenant: NewTenant) -> Isolation:
        """As in `PlacementPolicy`."""
        return self.isolations.get(tenant.plan, self.default)

    def choose(self, tenant: NewTenant, stores: Sequence[FreeStore]) -> FreeStore | None:
        """As in `PlacementPolicy`. A tenant with a region gets no store of another one."""
        fitting = [
            store for store in stores if tenant.region is None or store.region == tenant.region
        ]
        return min(fitting, key=lambda store: (store.region_in_use, store.name), default=None)
