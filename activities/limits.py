"""How long a transaction may take that is large by design."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporal_tenancy.postgres.session_limits import SessionLimits

# A batch of an import, a page of an export, all of a tenant's month: as large as the tenant is.
LARGE: Final = SessionLimits(
    statement=timedelta(minutes=2),
    lock=timedelta(seconds=30),  # another attempt's batch
    idle=timedelta(minutes=2),  # the object storage is asked in between
    transaction=timedelta(minutes=5),
)
