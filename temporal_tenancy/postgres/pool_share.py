"""How the connections of a process are shared by its tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from temporal_tenancy.core.errors import ConfigurationError

SIZE: Final = 10  # connections
RESERVED: Final = 2  # connections that one tenant leaves to others, at least
TIMEOUT: Final = 30.0  # seconds to wait for a connection
# Seconds until a tenant's waiting is given up, while its share is held and no transaction of its
# ends well: whoever waits on blocked work holds a slot of the worker's, and has a retry policy.
PATIENCE: Final = 2.0


@dataclass(frozen=True)
class PoolShare:
    """How a pool of connections is shared by its tenants."""

    size: int = SIZE  # connections at most
    reserved: int = RESERVED  # of them, that one tenant leaves to others
    timeout: float = TIMEOUT  # seconds to wait for one
    patience: float = PATIENCE  # seconds to wait while the tenant's own work is blocked

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError("a pool has one connection at least.")

    @property
    def most(self) -> int:
        """Connections that one tenant may hold: one always, also in a pool of few.

        So in a pool of two each of two tenants has one, and a pool of one is shared by turns.
        """
        return max(1, self.size - self.reserved)
