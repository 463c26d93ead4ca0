"""Where a tenant's rows are: the protocol through which a session finds its tenant's store."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from temporal_tenancy.core.spelling import SpelledEnum


class Isolation(StrEnum, metaclass=SpelledEnum):
    """How a tenant's rows are kept apart from those of others."""

    SHARED = "shared"  # in tables with other tenants, apart by row-level security
    SCHEMA = "schema"  # in a schema of its own, which only its own role can use
    DATABASE = "database"  # in a database of its own


SHARED_STORE: Final = "shared"
"""The name of the store that tenants without another one are in."""


@dataclass(frozen=True)
class Store:
    """A place that holds the rows of one tenant, or in `Isolation.SHARED` of many."""

    name: str  # opaque: it does not tell whose the store is
    isolation: Isolation = Isolation.SHARED
    # The URL of its database, as the tenant's role; None: the process's own database.
    url: str | None = field(default=None, repr=False)
    schema: str | None = None  # the schema of the tenant's tables; None: the database's default
    role: str | None = None  # the role that each transaction enters; None: the login's own


class StoreDirectory(Protocol):
    """A source of stores. The control plane has one; an application can provide its own."""

    async def store_of(self, tenant_id: str) -> Store:
        """Returns the store that holds the tenant's rows.

        An answer may be 5 s old. Raises if the store is not known or not reachable; it never
        answers with the shared store instead.
        """
