from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select
from temporalio.exceptions import ApplicationError
from temporal_tenancy import current_tenant, tenant_activity, tenant_session

from shop.models import Order, OrderLine


@tenant_activity
async def confirm(order_id: UUID) -> str:
    async with tenant_session() as session:
        order = (await session.scalars(select(Order).where(Order.id == order_id))).one()
        if "@" not in order.email:
            raise ApplicationError("the order has no address.", type="NoAddress", non_retryable=True)
        order.status = "confirmed"
        return f"{current_tenant()} confirmed for {order.email}"


@tenant_activity
async def count_orders(period: str) -> dict[str, int]:
    async with tenant_session() as session:
        orders = await session.scalar(select(func.count()).select_from(Order))
        lines = await session.scalar(select(func.count()).select_from(OrderLine))
    return {"orders": orders, "lines": lines}
