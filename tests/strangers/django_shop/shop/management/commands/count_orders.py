"""Counts a tenant's orders."""

from __future__ import annotations

from typing import Any

from shop.models import Order
from temporal_tenancy.django import TenantCommand, tenant_atomic


class Command(TenantCommand):
    """manage.py count_orders --tenant 7"""

    help = "Counts a tenant's orders."

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs in the tenant's scope."""
        with tenant_atomic():
            self.stdout.write(str(Order.objects.count()))
