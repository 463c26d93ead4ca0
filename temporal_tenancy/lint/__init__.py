"""The catalogue lint: finds settings of a database that weaken the isolation of tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.lint._installation import check_database

__all__ = [
    "check_database",
]

_WHERE: Final = {
    "check_database": "_installation",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
