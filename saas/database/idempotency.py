"""The table of idempotency keys: requests that were answered, with their answers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, Index
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.tables import TenantData
from temporal_tenancy import TenantOwned


class IdempotencyKey(TenantOwned, TenantData):
    """A key that a tenant's program sent with a request."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]  # SHA-256 of the request, in hexadecimal
    # JSON and not JSONB, which would reorder the fields. Null only inside the first transaction.
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    expires_at: Mapped[dt.datetime]  # then the key can be used again, and the row is deleted

    __table_args__ = (Index(None, "tenant_id", "expires_at"),)
