"""Where the library lives in a database: the schema of its tables, and the names of its roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SCHEMA: Final = "tenancy"
PUBLIC: Final = "public"
"""The schema in which earlier releases created the library's tables."""

ATTRIBUTE: Final = "installation"
"""The key of Alembic's `Config.attributes` that has the installation during a migration."""


@dataclass(frozen=True)
class Roles:
    """The names of the runtime roles."""

    tenant: str = "tenancy_tenant"  # reads and writes one tenant's rows at a time
    platform: str = "tenancy_platform"  # reads and writes the control plane
    relay: str = "tenancy_relay"  # turns outbox messages into workflows

    def __iter__(self) -> Iterator[str]:
        return iter((self.tenant, self.platform, self.relay))


@dataclass(frozen=True)
class Installation:
    """The library's schema and roles in one database."""

    schema: str = SCHEMA
    roles: Roles = field(default_factory=Roles)


def current_installation() -> Installation:
    """Returns the installation that the running migration is for; its schema is the one in use."""
    from alembic import op  # only migrations need it

    config = op.get_context().config
    found = None if config is None else config.attributes.get(ATTRIBUTE)
    return found if isinstance(found, Installation) else Installation(PUBLIC)
