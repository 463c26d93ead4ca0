"""Time limits for transactions that are large by design."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporal_tenancy import SessionLimits

# For a batch of an import, a page of an export or a tenant's whole month.
LARGE: Final = SessionLimits(
    statement=timedelta(minutes=2),
    lock=timedelta(seconds=30),  # another attempt's batch
    idle=timedelta(minutes=2),  # calls to the object storage in between
    transaction=timedelta(minutes=5),
)
