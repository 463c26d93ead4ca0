"""Two airlines whose rows are in no shared tables, and the stores that are prepared for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from dev import local_saas
from dev.devstack.stack import Stack
from temporal_tenancy import Isolation
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.stores import Stores

ISOLATION_OF: Final = {"b6": Isolation.SCHEMA, "f9": Isolation.DATABASE}  # JetBlue and Frontier


def prepare_stores(stack: Stack, run: Callable[..., Any]) -> None:
    """Prepares what the airlines of `ISOLATION_OF` lack, unless they have signed up already.

    `run` runs `starter.py` with its arguments, as the owner of the database. A store that an
    interrupted call has left half-made is finished.
    """
    for isolation, name in asyncio.run(_missing(stack)):
        run("stores", "add", *name, "--isolation", str(isolation))


async def _missing(stack: Stack) -> list[tuple[Isolation, list[str]]]:
    """Returns the isolation of each store to prepare, and its name if it is half-made."""
    database = local_saas.runtime_database(stack)
    missing = []
    try:
        known = await ControlPlaneDirectory(database).find_many(list(ISOLATION_OF))
        signed_up = {tenant.id for tenant in known}
        for tenant, isolation in ISOLATION_OF.items():
            stores = {
                str(store.state): store.name
                for store in await Stores(database).list(isolation=isolation)
            }
            if tenant not in signed_up and "ready" not in stores:
                half_made = stores.get("preparing")
                missing.append((isolation, [half_made] if half_made else []))
    finally:
        await database.dispose()
    return missing
