"""FastAPI: the tenant of a request, its session, and answers for the library's refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.fastapi._installing import install_tenancy
    from temporal_tenancy.fastapi._sessions import TenantSession

__all__ = ["TenantSession", "install_tenancy"]

_WHERE: Final = {
    "TenantSession": "_sessions",
    "install_tenancy": "_installing",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
