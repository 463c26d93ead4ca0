"""The shop's background jobs."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from temporal_tenancy import (
    Period,
    TenantInput,
    current_tenant,
    tenant_activity,
    tenant_job,
    tenant_transaction,
)

with workflow.unsafe.imports_passed_through():
    import psycopg

    from shop import settings

TIMES = {
    "start_to_close_timeout": timedelta(seconds=30),
    "retry_policy": RetryPolicy(maximum_attempts=3),
}


@tenant_activity
async def confirm_order(order_id: int) -> str:
    """Takes the item from the stock and writes the receipt."""
    async with (
        await psycopg.AsyncConnection.connect(settings.APP_URL) as connection,
        tenant_transaction(connection),
    ):
        found = await connection.execute(
            "select item from orders where id = %s", [order_id]
        )
        (item,) = await found.fetchone()
        taken = await connection.execute(
            "update stock set amount = amount - 1 where item = %s and amount > 0", [item]
        )
        if taken.rowcount == 0:
            raise ApplicationError(f"{item} is sold out.", type="SoldOut", non_retryable=True)
        await connection.execute(
            """insert into receipts (tenant_id, order_id, text) values (%s, %s, %s)
               on conflict do nothing""",
            [current_tenant(), order_id, f"one {item}"],
        )
    return item


@tenant_activity
async def count_orders(day: str) -> int:
    """Writes down how many orders the customer had that day."""
    async with (
        await psycopg.AsyncConnection.connect(settings.APP_URL) as connection,
        tenant_transaction(connection),
    ):
        row = await connection.execute(
            """insert into day_totals (tenant_id, day, orders)
               select %s, %s::date, count(*) from orders where placed_at::date <= %s::date
               on conflict (tenant_id, day) do update set orders = excluded.orders
               returning orders""",
            [current_tenant(), day, day],
        )
        return (await row.fetchone())[0]


class ConfirmInput(TenantInput):
    order_id: int


class TotalInput(TenantInput):
    period: str


@tenant_job("orders.confirm", queue="shop")
class ConfirmOrder:
    """Confirms an order."""

    @workflow.run
    async def run(self, job: ConfirmInput) -> str:
        return await workflow.execute_activity(confirm_order, job.order_id, **TIMES)


@tenant_job("orders.total", queue="shop", period=Period.DAY)
class TotalOrders:
    """Counts the day's orders."""

    @workflow.run
    async def run(self, job: TotalInput) -> int:
        return await workflow.execute_activity(count_orders, job.period, **TIMES)
