"""The interceptor of Nexus operations, which refuses them: they carry no tenant."""

from __future__ import annotations

from typing import Any

from temporalio.worker import (
    ExecuteNexusOperationCancelInput,
    ExecuteNexusOperationStartInput,
    NexusOperationInboundInterceptor,
)

from temporal_tenancy.core.errors import HopRefused

_WHY = "tenancy is not carried over Nexus. Start a job instead."


class TenancyNexusInbound(NexusOperationInboundInterceptor):
    """Refuses every Nexus operation with `HopRefused`."""

    async def execute_nexus_operation_start(self, input: ExecuteNexusOperationStartInput) -> Any:
        raise HopRefused(f"the Nexus operation {input.ctx.operation} is refused: {_WHY}")

    async def execute_nexus_operation_cancel(self, input: ExecuteNexusOperationCancelInput) -> None:
        raise HopRefused(f"the Nexus operation {input.ctx.operation} is refused: {_WHY}")
