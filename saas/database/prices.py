"""The price list: the price of one usage event."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

CURRENCY: Final = "USD"
MICROS_PER_CENT: Final = 10_000


@dataclass(frozen=True)
class Rate:
    """A price for one kind of usage."""

    name: str
    unit_price_micros: int  # millionths of the currency's unit

    def amount_cents(self, quantity: int) -> int:
        """Returns the price of `quantity` units in cents, rounded once, half to even."""
        exact = Decimal(quantity * self.unit_price_micros) / MICROS_PER_CENT
        return int(exact.to_integral_value(ROUND_HALF_EVEN))


OPERATED: Final = Rate("flights.operated", 125_000)  # 12.5 cents
CANCELLED: Final = Rate("flights.cancelled", 15_000)  # 1.5 cents: cancelled flights count as usage
