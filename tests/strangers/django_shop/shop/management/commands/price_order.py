"""Corrects the price of a tenant's order."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from shop.models import Order
from temporal_tenancy.django import TenantCommand, tenant_atomic


class Command(TenantCommand):
    """manage.py price_order --tenant 7 12 500"""

    help = "Corrects the price of a tenant's order."

    def add_arguments(self, parser: CommandParser) -> None:
        """Adds the order and its price."""
        super().add_arguments(parser)
        parser.add_argument("order", type=int)
        parser.add_argument("cents", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs in the tenant's scope."""
        with tenant_atomic():
            if not Order.objects.filter(id=options["order"]).update(cents=options["cents"]):
                raise CommandError("there is no such order.")
