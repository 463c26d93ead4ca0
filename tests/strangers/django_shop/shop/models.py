"""Orders and their payments."""

from __future__ import annotations

from django.db import models

from temporal_tenancy import current_tenant


def tenant() -> int:
    """Returns the current tenant, as its column has it."""
    return int(current_tenant())


class Order(models.Model):
    """An order of a tenant's customer."""

    tenant_id = models.BigIntegerField(default=tenant, editable=False)
    item = models.TextField()
    cents = models.BigIntegerField()
    confirmed = models.BooleanField(default=False)


class Payment(models.Model):
    """A payment of an order; its foreign key is in the migration, with the tenant."""

    tenant_id = models.BigIntegerField(default=tenant, editable=False)
    order = models.ForeignKey(
        Order, models.CASCADE, related_name="payments", db_constraint=False, db_index=False
    )
    cents = models.BigIntegerField()

    class Meta:
        """Its index begins with the tenant."""

        indexes = [models.Index(fields=["tenant_id", "order"], name="payment_of_order")]
