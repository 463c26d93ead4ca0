"""Django: the tenant of a request or a command, and transactions of the ORM for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.django.commands import TenantCommand
    from temporal_tenancy.django.middleware import TenantMiddleware
    from temporal_tenancy.django.requests import enqueue, once
    from temporal_tenancy.django.transactions import tenant_atomic

__all__ = ["TenantCommand", "TenantMiddleware", "enqueue", "once", "tenant_atomic"]

_WHERE: Final = {
    "TenantCommand": "commands",
    "TenantMiddleware": "middleware",
    "enqueue": "requests",
    "once": "requests",
    "tenant_atomic": "transactions",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
