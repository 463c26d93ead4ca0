"""The names of stores, which tell nobody whose they are."""

from __future__ import annotations

import re
import secrets
from typing import Final

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.stores import SHARED_STORE
from temporal_tenancy.stores.errors import StoreRefused, StoreUnknown

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_REGION: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")


def new_name() -> str:
    """Returns a name for a store, its schema, its role or its database."""
    return f"t_{secrets.token_hex(8)}"


def require_name(name: str) -> None:
    """Raises `StoreRefused` for what cannot be the name of a store."""
    if not _NAME.fullmatch(name) or name.startswith("pg_") or name == SHARED_STORE:
        raise StoreRefused(
            f"{name!r} cannot be the name of a store. Use up to 63 of a-z, 0-9 and _, "
            f'beginning with a letter, and neither pg_ at the beginning nor "{SHARED_STORE}".'
        )


def require_region(region: str | None) -> None:
    """Raises `StoreRefused` for what cannot be the name of a region; None: no region."""
    if region is not None and not _REGION.fullmatch(region):
        raise StoreRefused(
            f"{region!r} cannot be the name of a region. Use up to 63 of a-z, A-Z, 0-9, "
            "_ and -, such as eu-west-1, or leave it out."
        )


def unknown_store(name: str) -> StoreUnknown:
    """Returns the error for a store that does not exist, or that nobody prepared."""
    if name == SHARED_STORE:
        return StoreUnknown(
            f"the {SHARED_STORE} store is not one that was prepared: it always takes tenants. Name "
            "one that the list of stores has."
        )
    return StoreUnknown(
        f"there is no store {printable(name)}. Name one that the list of stores has."
    )
