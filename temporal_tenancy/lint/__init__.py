"""The lint of a database: what it lets a tenant do that it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.lint.installation import check_database

__all__ = [
    "check_database",
]

_WHERE: Final = {
    "check_database": "installation",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
