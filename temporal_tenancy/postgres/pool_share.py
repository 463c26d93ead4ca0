"""How the tenants of a process share its pool of connections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.spelling import spelled

SIZE: Final = 10  # connections
RESERVED: Final = 2  # minimum of connections that one tenant leaves to others
TIMEOUT: Final = 30.0  # seconds to wait for a connection
# Seconds that a tenant's session waits while the tenant's own work uses its whole share and commits
# nothing. Short, because the waiting code occupies a worker slot, and its activity is retried.
PATIENCE: Final = 2.0


@spelled
@dataclass(frozen=True)
class PoolShare:
    """How tenants share one pool; raises `ConfigurationError` for a pool without connections."""

    size: int = SIZE  # maximum number of connections
    reserved: int = RESERVED  # how many of them one tenant leaves to others
    timeout: float = TIMEOUT  # seconds to wait for a connection
    patience: float = PATIENCE  # seconds to wait while the tenant's own work is blocked

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError(
                "a pool needs at least one connection. Give it size=1 or more."
            )

    @property
    def most(self) -> int:
        """The number of connections that one tenant may hold: at least one, even in a small pool.

        In a pool of two, two tenants have one each; in a pool of one, tenants take turns.
        """
        return max(1, self.size - self.reserved)

    def most_of(self, part: float | None) -> int:
        """Returns how many connections a tenant may hold whose plan says `part`.

        It is that part of the pool's size, rounded down: at least one, and never one of the two
        that each tenant leaves to others. None: `most`.
        """
        if part is None:
            return self.most
        return max(1, min(math.floor(self.size * part), self.size - RESERVED))
