"""The client's connection: in a tenant's scope nothing is sent over it that is not the tenant's."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message
from temporalio.service import ServiceClient

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, current_scope
from temporal_tenancy.sdk.interceptors.rpcs import Call, admitted

if TYPE_CHECKING:
    from temporalio.service import _BridgeServiceClient

Response = TypeVar("Response", bound=Message)


class TenancyServiceClient(ServiceClient):
    """Stands behind every RPC of a client, also of those that pass no interceptor.

    Workers do not poll over it: the SDK's core has the connection itself.
    """

    def __init__(self, inner: ServiceClient, namespace: str) -> None:
        """`inner` is the connection, and `namespace` the only one a tenant's code may name."""
        super().__init__(inner.config)
        self.namespace = namespace
        self._inner = inner

    @property
    def unchecked(self) -> ServiceClient:
        """The connection itself; raises `TenantMismatch` in a tenant's scope."""
        _refuse_in_tenant("take the connection itself")
        return self._inner

    @property
    def worker_service_client(self) -> _BridgeServiceClient:
        # A worker takes the core's connection out of it, and nothing else. It may be made in a
        # tenant's scope, so what else can be called through this one is checked as well.
        bridge = copy(self._inner.worker_service_client)
        for name, service in vars(self).items():
            if name.endswith("_service"):
                setattr(bridge, name, service)
        return bridge

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        _refuse_in_tenant("change the client's metadata")
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        _refuse_in_tenant("change the client's API key")
        self._inner.update_api_key(api_key)

    async def _rpc_call(
        self,
        rpc: str,
        req: Any,  # a message
        resp_type: type[Response],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,  # noqa: ASYNC109  # the SDK's own signature
    ) -> Response:
        scope = current_scope()
        if isinstance(scope, TenantScope):
            req = admitted(service, req, Call(scope, self.namespace, rpc))
        return await self._inner._rpc_call(
            rpc,
            req,
            resp_type,
            service=service,
            retry=retry,
            metadata=metadata,
            timeout=timeout,
        )


def checked(inner: ServiceClient, namespace: str) -> TenancyServiceClient:
    """Returns the connection behind the checks, once however often it is asked."""
    if isinstance(inner, TenancyServiceClient):
        if inner.namespace == namespace:
            return inner
        inner = inner.unchecked
    return TenancyServiceClient(inner, namespace)


def _refuse_in_tenant(what: str) -> None:
    scope = current_scope()
    if isinstance(scope, TenantScope):
        raise TenantMismatch(f"{scope.tenant_id} cannot {what}: it serves all tenants.")
