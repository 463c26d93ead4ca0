"""Shows and drains stores."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from temporal_tenancy.cli._arguments import one_of
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli.answers import Answer, facts, lines, minute, table
from temporal_tenancy.cli.program import quoted
from temporal_tenancy.control_plane.tables import StoreState
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.stores.registry import KnownStore, Stores


async def show_all(isolation: str | None, state: str | None) -> Answer:
    """Lists the stores, or those of an isolation or a state."""
    wanted = None if isolation is None else one_of(Isolation, isolation, "--isolation")
    in_state = None if state is None else one_of(StoreState, state, "--state")
    async with control_plane() as database:
        stores = await Stores(database).list(isolation=wanted, state=in_state)
    rows = [
        (store.name, store.isolation, store.state, store.region, ", ".join(store.tenants))
        for store in stores
    ]
    empty = "There are no such stores." if wanted or in_state else "All tenants share one store."
    return Answer(
        [_document(store) for store in stores],
        table(("store", "isolation", "state", "region", "tenants"), rows, empty=empty),
    )


async def show(name: str) -> Answer:
    """Shows one store; raises `StoreUnknown`."""
    async with control_plane() as database:
        store = await Stores(database).show(name)
    return Answer(_document(store), _text(store))


async def drain(name: str) -> Answer:
    """Lets a store take no more tenants; raises `StoreUnknown` and `StoreNotReady`."""
    async with control_plane() as database:
        store = await Stores(database).drain(name)
    stay = f"Its tenants stay: {', '.join(store.tenants)}." if store.tenants else None
    if stay is None:
        stay = f"{quoted(f'stores remove {store.name}')} drops it."
    return Answer(_document(store), lines(f"{store.name} takes no more tenants.", stay))


async def undrain(name: str) -> Answer:
    """Lets a store take tenants, drained or not; raises `StoreUnknown` and `StoreNotReady`."""
    async with control_plane() as database:
        store = await Stores(database).undrain(name)
    if store.tenants:
        return Answer(_document(store), f"{store.name} is in use, by {', '.join(store.tenants)}.")
    return Answer(_document(store), f"{store.name} takes a tenant.")


def _text(store: KnownStore) -> RenderableType:
    return facts(
        [
            ("store", store.name),
            ("isolation", store.isolation),
            ("state", f"{store.state} since {minute(store.state_since)}"),
            ("schema", store.schema),
            ("connections", store.secret),
            ("region", store.region),
            ("tenants", ", ".join(store.tenants) or None),
        ]
    )


def _document(store: KnownStore) -> dict[str, Any]:
    return {
        "name": store.name,
        "isolation": store.isolation,
        "state": store.state,
        "state_since": store.state_since,
        "created_at": store.created_at,
        "schema": store.schema,
        "secret": store.secret,
        "region": store.region,
        "capacity": store.capacity,
        "tenants": list(store.tenants),
    }
