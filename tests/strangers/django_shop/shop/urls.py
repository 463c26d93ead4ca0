"""The views."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path

import shop.jobs  # noqa: F401  (so that this process knows the jobs)
from shop.models import Order
from temporal_tenancy.django import enqueue, tenant_atomic


@tenant_atomic()
def take_order(request: HttpRequest) -> JsonResponse:
    """Stores an order, and asks for its confirmation."""
    order = Order.objects.create(item=request.POST["item"], cents=int(request.POST["cents"]))
    enqueue("orders.confirm", {"order_id": order.id}, key=str(order.id))
    if order.item == "out of stock":
        raise RuntimeError("the shelf is empty")  # after the request: all is rolled back
    return JsonResponse({"order": order.id, "orders": Order.objects.count()})


urlpatterns = [path("orders", take_order)]
