"""The middleware that runs a request in its tenant's scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django import conf  # not its settings: any tool that looks at a name of a module loads them
from django.utils.module_loading import import_string

from temporal_tenancy.core.directory import Tenant, use_tenant_record
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.django._tenantless import request_without_tenant

SETTING: Final = "TENANCY_TENANT_OF"


class TenantMiddleware:
    """Runs each request in the scope of its tenant, in sync and async views.

    The setting `TENANCY_TENANT_OF` is a function, or its dotted path: it takes the request and
    returns the tenant's id, its `Tenant` record, or None for a request that has no tenant. With
    the record, `tenant_atomic()` refuses a tenant whose rows are in a store of its own. It may be
    `async`. Put the middleware after the one that authenticates.

    Raises `ConfigurationError` without the setting.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        """`get_response`: the next middleware, or the view; Django has no types."""
        found = getattr(conf.settings, SETTING, None)
        if found is None:
            raise ConfigurationError(
                f"the setting {SETTING} is missing. Let it name a function that takes a request "
                "and returns the id of its tenant, or None."
            )
        self.get_response = get_response
        self._tenant_of: Callable[[Any], Any] = (
            import_string(found) if isinstance(found, str) else found
        )
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:  # a response, or a coroutine that returns one
        """Returns the response."""
        if iscoroutinefunction(self):
            return self._respond(request)
        find = self._tenant_of
        tenant = async_to_sync(find)(request) if iscoroutinefunction(find) else find(request)
        if tenant is None:
            with request_without_tenant(request):
                return self.get_response(request)
        with _entered(tenant):
            return self.get_response(request)

    async def _respond(self, request: Any) -> Any:
        find = self._tenant_of
        asked: Callable[[Any], Awaitable[Any]] = (
            find if iscoroutinefunction(find) else sync_to_async(find)
        )
        tenant = await asked(request)
        if tenant is None:
            with request_without_tenant(request):
                return await self.get_response(request)
        with _entered(tenant):
            return await self.get_response(request)


@contextmanager
def _entered(tenant: str | Tenant) -> Iterator[None]:
    if not isinstance(tenant, Tenant):
        with enter(TenantScope(tenant)):
            yield
        return
    with enter(TenantScope(tenant.id)), use_tenant_record(tenant):
        yield
