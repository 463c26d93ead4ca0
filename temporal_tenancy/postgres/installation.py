"""Where the library lives in a database: the schema of its tables, and the names of its roles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from temporal_tenancy.core.errors import ConfigurationError

SCHEMA: Final = "tenancy"
PUBLIC: Final = "public"
"""The schema in which earlier releases created the library's tables."""

IDENTITY: Final = "store_identity"
"""The table in each store that says which store it is, and whose."""

ATTRIBUTE: Final = "installation"
"""The key of Alembic's `Config.attributes` that has the installation during a migration."""

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
                    f"{role!r} is not a name for a runtime role. Use up to 63 letters, "
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
    """Returns the installation that the running migration is for; its schema is the one in use.

    It is the attribute `installation` of Alembic's `Config`. Without it, the library's tables are
    in `public`, and the roles have their default names.
    """
    from alembic import op  # only migrations need it

    config = op.get_context().config
    found = None if config is None else config.attributes.get(ATTRIBUTE)
    return found if isinstance(found, Installation) else Installation(PUBLIC)


def quoted(name: str) -> str:
    """Returns a role's or a schema's name as an identifier in SQL text."""
    return '"' + name.replace('"', '""') + '"'
