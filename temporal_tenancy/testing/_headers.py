"""Clients and headers that forge their tenant, and the refusal that they must get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from temporalio import client
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.sdk import header
from temporal_tenancy.sdk.interceptors import TenancyInterceptor
from temporal_tenancy.sdk.interceptors.service_client import TenancyServiceClient


def forged_headers(tenant: str | None = None, *, raw: bytes | None = None) -> dict[str, Payload]:
    """Returns the headers of a forger.

    Args:
        tenant: the tenant that the header names; None: there is no header.
        raw: the header's bytes instead, which need not be readable.

    Raises:
        TenancyError: `tenant` is not a tenant id.
    """
    if raw is not None:
        return {header.NAME: Payload(metadata={"encoding": b"json/plain"}, data=raw)}
    return {} if tenant is None else header.write({}, TenantScope(tenant))


def forged(
    of: client.Client, tenant: str | None = None, *, raw: bytes | None = None
) -> client.Client:
    """Returns a client like `of`, whose starts and messages claim to be another tenant's.

    It has none of the plugin's checks, as the Web UI, the CLI or a client in another language, and
    the same data converter. The arguments are those of `forged_headers`: `forged(client)` sends no
    header.

    Raises:
        TenancyError: `tenant` is not a tenant id.
    """
    config = of.config(active_config=True)
    service = config["service_client"]
    if isinstance(service, TenancyServiceClient):
        service = service.unchecked
    config["service_client"] = service
    config["plugins"] = []
    config["interceptors"] = [
        *(each for each in config["interceptors"] if not isinstance(each, TenancyInterceptor)),
        _Forger(forged_headers(tenant, raw=raw)),
    ]
    return client.Client(**config)


@contextmanager
def refused(error: type[TenancyError] | str) -> Iterator[None]:
    """Expects the block to be refused: raises `AssertionError` unless it fails with `error`.

    It looks through what the client raises for workflows, updates and activities. A signal that is
    refused is dropped without an error, and a refused query is a `WorkflowQueryFailedError`.

    Args:
        error: the type of the failure, such as `TenantMismatch`, or its name.
    """
    name = error if isinstance(error, str) else error.__name__
    try:
        yield
    except Exception as raised:
        if name not in _types(raised):
            raise
    else:
        raise AssertionError(f"it should have been refused with {name}, and was not")


def _types(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        if isinstance(error, ApplicationError) and error.type:
            yield error.type
        yield type(error).__name__
        error = getattr(error, "cause", None) or error.__cause__


class _Forger(client.Interceptor):
    def __init__(self, headers: Mapping[str, Payload]) -> None:
        self._headers = headers

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        return _Outbound(next, self._headers)


class _Outbound(client.OutboundInterceptor):
    def __init__(self, next: client.OutboundInterceptor, headers: Mapping[str, Payload]) -> None:
        super().__init__(next)
        self._headers = headers

    async def start_workflow(
        self, input: client.StartWorkflowInput
    ) -> client.WorkflowHandle[Any, Any]:
        input.headers = self._headers
        return await super().start_workflow(input)

    async def signal_workflow(self, input: client.SignalWorkflowInput) -> None:
        input.headers = self._headers
        await super().signal_workflow(input)

    async def query_workflow(self, input: client.QueryWorkflowInput) -> Any:
        input.headers = self._headers
        return await super().query_workflow(input)

    async def start_workflow_update(
        self, input: client.StartWorkflowUpdateInput
    ) -> client.WorkflowUpdateHandle[Any]:
        input.headers = self._headers
        return await super().start_workflow_update(input)

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> client.WorkflowUpdateHandle[Any]:
        input.start_workflow_input.headers = self._headers
        input.update_workflow_input.headers = self._headers
        return await super().start_update_with_start_workflow(input)
