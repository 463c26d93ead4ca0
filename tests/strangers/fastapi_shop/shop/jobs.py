from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporal_tenancy import Period, TenantInput, tenant_job

from shop.activities import confirm, count_orders


class ConfirmInput(TenantInput):
    order_id: UUID


@tenant_job("orders.confirm", queue="shop")
class ConfirmOrder:
    """Confirms an order to its buyer."""

    @workflow.run
    async def run(self, job: ConfirmInput) -> str:
        return await workflow.execute_activity(
            confirm, job.order_id, start_to_close_timeout=timedelta(minutes=1)
        )


class SummaryInput(TenantInput):
    period: str


@tenant_job("orders.summary", queue="shop", period=Period.DAY)
class SummarizeOrders:
    """Counts the organization's orders of a day."""

    @workflow.run
    async def run(self, job: SummaryInput) -> dict[str, int]:
        return await workflow.execute_activity(
            count_orders, job.period, start_to_close_timeout=timedelta(minutes=1)
        )
