"""Where the library lives in a database: the schema of its tables, and the names of its roles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError

SCHEMA: Final = "tenancy"

# Roles' names stand in policies and in the conditions of triggers. At most 63 bytes, of which
# PostgreSQL would cut off the rest.
_ROLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$.@-]{0,62}")
_RESERVED: Final = ("public", "none", "current_user", "session_user", "current_role")


@dataclass(frozen=True)
class Roles:
    """The names of the runtime roles.

    Raises `ConfigurationError` for a name that no role may have, and for one role named twice.
    """

    tenant: str = "tenancy_tenant"  # reads and writes one tenant's rows at a time
    platform: str = "tenancy_platform"  # reads and writes the control plane
    relay: str = "tenancy_relay"  # turns outbox messages into workflows

    def __post_init__(self) -> None:
        for role in self:
            if not _ROLE.fullmatch(role) or role.startswith("pg_") or role in _RESERVED:
                raise ConfigurationError(
                    f"{printable(role)!r} is not a name for a runtime role. Use up to 63 letters, "
                    "digits and _ $ . @ -, beginning with a letter or _, and not with pg_."
                )
        if len({*self}) < 3:
            raise ConfigurationError(
                f"the runtime roles {', '.join(self)} are not three. Each has rights that the "
                "others must not have: name three roles."
            )

    def __iter__(self) -> Iterator[str]:
        return iter((self.tenant, self.platform, self.relay))


@dataclass(frozen=True)
class Installation:
    """The library's schema and roles in one database."""

    schema: str = SCHEMA
    roles: Roles = field(default_factory=Roles)


def current_installation() -> Installation:
    """Returns the installation that the running migration is for; call it in a migration.

    It is the attribute `installation` of Alembic's `Config`, or the default one.
    """
    from alembic import op  # here, since a process that migrates nothing does not need it

    config = op.get_context().config
    found = config.attributes.get("installation") if config is not None else None
    return found if isinstance(found, Installation) else Installation()


def quoted(name: str) -> str:
    """Returns a role's or a schema's name as an identifier in SQL text."""
    return '"' + name.replace('"', '""') + '"'
