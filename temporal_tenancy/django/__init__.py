"""Django: the tenant of a request or a command, and transactions of the ORM for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.django._commands import TenantCommand
    from temporal_tenancy.django._middleware import TenantMiddleware
    from temporal_tenancy.django._requests import enqueue, once
    from temporal_tenancy.django._transactions import tenant_atomic

__all__ = ["TenantCommand", "TenantMiddleware", "enqueue", "once", "tenant_atomic"]

_WHERE: Final = {
    "TenantCommand": "_commands",
    "TenantMiddleware": "_middleware",
    "enqueue": "_requests",
    "once": "_requests",
    "tenant_atomic": "_transactions",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
