"""The client's connection, which checks each request that is sent in a tenant's scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio.service import ServiceClient

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, current_scope
from temporal_tenancy.sdk.interceptors._rpcs import Call, admitted
from temporal_tenancy.sdk.private_names import CheckingServiceClient


class TenancyServiceClient(CheckingServiceClient):
    """A connection that checks every RPC of a client, also those that no interceptor sees.

    Workers do not poll over it: the SDK's core has the inner connection.
    """

    def __init__(self, inner: ServiceClient, namespace: str) -> None:
        """`inner` is the connection, and `namespace` the only one that a tenant's code may name."""
        super().__init__(inner)
        self.namespace = namespace

    @property
    def unchecked(self) -> ServiceClient:
        """The inner connection.

        Raises:
            TenantMismatch: the calling code is in a tenant's scope.
        """
        _refuse_in_tenant("take the connection itself")
        return self._inner

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        _refuse_in_tenant("change the client's metadata")
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        _refuse_in_tenant("change the client's API key")
        self._inner.update_api_key(api_key)

    def admit(self, service: str, rpc: str, request: Any) -> Any:
        scope = current_scope()
        if not isinstance(scope, TenantScope):
            return request
        return admitted(service, request, Call(scope, self.namespace, rpc))


def checked(inner: ServiceClient, namespace: str) -> TenancyServiceClient:
    """Returns `inner` with the checks around it, which are never put on twice.

    Raises:
        TenantMismatch: `inner` has the checks for another namespace, and the calling code is in a
            tenant's scope.
    """
    if isinstance(inner, TenancyServiceClient):
        if inner.namespace == namespace:
            return inner
        inner = inner.unchecked
    return TenancyServiceClient(inner, namespace)


def _refuse_in_tenant(what: str) -> None:
    scope = current_scope()
    if isinstance(scope, TenantScope):
        raise TenantMismatch(f"{scope.tenant_id} cannot {what}: it serves all tenants.")
