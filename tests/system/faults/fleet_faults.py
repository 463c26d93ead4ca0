"""Faults of a fleet's workers and relays, each of which a campaign has to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from temporal_tenancy.control_plane import directory
from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.stores import Store
from temporal_tenancy.outbox import Relay
from temporal_tenancy.outbox.relay.starting import start_unit
from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres._store_engines import StoreEngines
from tests.mutants.mutant import replace
from tests.system.faults.message_jobs import ALONE

FAULT: Final = "FLEET_FAULT"  # the variable with the name of a process's fault


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault, and what a campaign says of it."""

    seed: Callable[[], None]
    said: str  # a part of one of its sentences


def next_of(tenant: str) -> str:
    """Returns the other tenant of the same isolation."""
    return tenant[:-1] + {"1": "2", "2": "1"}.get(tenant[-1], tenant[-1])


def _go_to_the_next_store() -> None:
    real = StoreEngines.store_of

    async def store_of(self: StoreEngines, tenant: str) -> Store | None:
        return await real(self, next_of(tenant))

    replace(StoreEngines, "store_of", store_of)


def _compare_no_owner() -> None:
    _go_to_the_next_store()
    replace(store_entry, "_require_own", lambda rows, store, tenant: None)


def _ask_for_no_suspension() -> None:
    real = directory.tenant_of

    def tenant_of(row: Any) -> Tenant:
        tenant = real(row)
        if tenant.status is TenantStatus.SUSPENDED:
            return tenant.model_copy(update={"status": TenantStatus.ACTIVE})
        return tenant

    replace(directory, "tenant_of", tenant_of)


def _mark_without_starting() -> None:
    async def mark_alone(client: Any, unit: Any, ladder: Any) -> bool:
        first = unit.messages[0]
        if first.job == ALONE and first.key.endswith("-1"):
            return True
        return await start_unit(client, unit, ladder)

    defaults: Any = Relay.__init__.__kwdefaults__
    assert defaults["deliver"] is start_unit
    defaults["deliver"] = mark_alone


# What writes into others' stores is last, as what it leaves is found by later seeds too.
FAULTS: Final[Mapping[str, Fault]] = {
    "mark-without-start": Fault(_mark_without_starting, "has 0 effects, not 1."),
    "suspension-not-asked": Fault(_ask_for_no_suspension, " was suspended from "),
    # The store says whose it is, so nothing is written; the job fails for good.
    "next-store": Fault(_go_to_the_next_store, "has 0 effects, not 1."),
    "next-store-not-compared": Fault(_compare_no_owner, "audit_entries has rows of "),
}
