"""What can be wrong with a store."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable


class StoreUnknown(TenancyError):
    """There is no such store."""


class StoreExists(TenancyError):
    """The name, the schema or the database of a new store is taken."""


class StoreRefused(TenancyError):
    """A store cannot be made like that."""


class StoreNotReady(TenancyError):
    """The store is still being prepared, or its preparation has failed."""


class StoreDraining(TenancyError):
    """The store takes no more tenants."""


class StoreFull(TenancyError):
    """The store holds as many tenants as it may."""


class StoreInUse(TenancyError):
    """The store has tenants, so it cannot be removed."""


class NoStoreFree(TenancyError):
    """No prepared store fits a new tenant."""


class WaveUnknown(TenancyError):
    """The migration has no such wave."""


class WaveRefused(TenancyError):
    """The wave cannot begin, or its stores cannot be chosen like that."""


class StoreUnreachable(DatabaseProblem):
    """The server of a store does not answer."""


class StorePreparationFailed(DatabaseProblem):
    """A store could not be prepared, and stays as it was before."""


class ConnectionSecretMissing(DatabaseProblem):
    """The secret store has no connection of that name, or it cannot be read."""


STORE_AWAY: Final = (DatabaseUnreachable, StoreUnreachable, ConnectionSecretMissing)
"""The errors of a tenant's own database that cannot be reached now; others' work goes on."""


def reason_of(error: Exception) -> str:
    """Returns the type and the first line of what a migration has failed with."""
    cause = getattr(error, "orig", None) or error
    message = getattr(getattr(cause, "diag", None), "message_primary", None)
    words = str(message or getattr(cause, "message", None) or cause).strip()
    first = printable(words.splitlines()[0].rstrip(".")) if words else ""
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__


def reason_at_store(error: Exception) -> str:
    """Returns why a store in another database did not answer, with nothing of its URL."""
    if isinstance(error, DatabaseUnreachable):
        return f"{type(error).__name__}: it does not answer, or refuses the login"
    return reason_of(error)
