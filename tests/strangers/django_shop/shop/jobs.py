"""The jobs."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from temporal_tenancy import Period, TenantInput, tenant_activity, tenant_job

with workflow.unsafe.imports_passed_through():
    from django.db import close_old_connections

    from temporal_tenancy.django import tenant_atomic


class OrderInput(TenantInput):
    """The order that the job is about."""

    order_id: int


class DayInput(TenantInput):
    """The day that the job is about."""

    period: str


@tenant_activity
def confirm_order(request: OrderInput) -> str:
    """Confirms an order, and records its payment once."""
    from shop.models import Order, Payment

    close_old_connections()
    with tenant_atomic():
        order = Order.objects.select_for_update().get(id=request.order_id)
        if order.cents <= 0:
            raise ApplicationError(
                f"order {order.id} costs nothing.", type="NothingToPay", non_retryable=True
            )
        if not order.confirmed:
            Payment.objects.create(order=order, cents=order.cents)
            order.confirmed = True
            order.save()
        return f"{order.item} confirmed"


@tenant_activity
def total_payments(request: DayInput) -> int:
    """Returns the sum of the tenant's payments."""
    from django.db.models import Sum

    from shop.models import Payment

    close_old_connections()
    with tenant_atomic():
        return Payment.objects.aggregate(total=Sum("cents"))["total"] or 0


@tenant_job("orders.confirm", queue="default")
class ConfirmOrder:
    """Confirms one order."""

    @workflow.run
    async def run(self, job: OrderInput) -> str:
        """Runs the activity."""
        return await workflow.execute_activity(
            confirm_order, job, start_to_close_timeout=timedelta(minutes=1)
        )


@tenant_job("payments.total", queue="default", period=Period.DAY)
class TotalPayments:
    """Adds up a tenant's payments."""

    @workflow.run
    async def run(self, job: DayInput) -> int:
        """Runs the activity."""
        return await workflow.execute_activity(
            total_payments, job, start_to_close_timeout=timedelta(minutes=1)
        )
