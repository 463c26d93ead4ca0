"""Tenants' own host names: `{tenant}.{domain}`.

A host name lets nobody in. It names the tenant whose endpoint a webhook is sent to, and must agree
with whoever calls.
"""

from __future__ import annotations

from fastapi import Request

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.identifiers import tenant_id


def host_tenant(request: Request, domain: str | None) -> str | None:
    """The tenant that the request's host name is of; None where it is no tenant's.

    What a proxy says of another host is not heeded.
    """
    host = request.headers.get("host", "").rsplit(":", 1)[0].rstrip(".").lower()
    if domain is None or not host.endswith(f".{domain.lower()}"):
        return None
    try:
        return tenant_id(host.removesuffix(f".{domain.lower()}"))
    except TenancyError:
        return None
