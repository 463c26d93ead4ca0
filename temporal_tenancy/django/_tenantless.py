"""The request without a tenant that this code answers, for an error that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.scope import current_scope
from temporal_tenancy.postgres.transactions import current_tenant_of_this_code

_REQUEST: Final[ContextVar[str]] = ContextVar("request_without_tenant", default="")


@contextmanager
def request_without_tenant(request: Any) -> Iterator[None]:  # Django has no types
    """Lets errors in the block name the request."""
    token = _REQUEST.set(printable(f"{request.method} {request.path}"))
    try:
        yield
    finally:
        _REQUEST.reset(token)


def tenant_of_this_code() -> str:
    """Returns the current tenant.

    Raises:
        ScopeMissing: there is none, or this is workflow code.
    """
    request = _REQUEST.get()
    if request and current_scope() is None:
        raise ScopeMissing(
            f"the request {request} has no tenant: the function of TENANCY_TENANT_OF returned "
            "None. Answer such a request before its view needs a tenant, with status 401 or 403."
        )
    return current_tenant_of_this_code()
