"""Tenants' own host names: `{tenant}.{domain}`.

A host name is not a credential. It names the tenant that a webhook is for, and must agree with the
caller's tenant. A host name has no case, so alone it names only a tenant whose id is in lower case.
"""

from __future__ import annotations

from fastapi import Request

from temporal_tenancy import TenancyError, tenant_id


def agrees(named: str | None, tenant: str) -> bool:
    """Returns whether a host name that names `named` may be used for `tenant`; None always may."""
    return named is None or named == tenant.lower()


def host_tenant(request: Request, domain: str | None) -> str | None:
    """Returns the tenant in the request's host name, in lower case; None if it names none.

    `X-Forwarded-Host` is ignored.
    """
    host = request.headers.get("host", "").rsplit(":", 1)[0].rstrip(".").lower()
    if domain is None or not host.endswith(f".{domain.lower()}"):
        return None
    try:
        return tenant_id(host.removesuffix(f".{domain.lower()}"))
    except TenancyError:
        return None
