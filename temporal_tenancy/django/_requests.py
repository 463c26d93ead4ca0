"""Requests jobs, and records events, in the transaction of `tenant_atomic()`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from pydantic import BaseModel

from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.django._transactions import connection_in_block
from temporal_tenancy.outbox import enqueue_in, once_in


def enqueue(
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> UUID:
    """Requests a job for the current tenant, in the `tenant_atomic()` that is open.

    The job starts once that transaction commits, and never if it rolls back. The other arguments
    are those of `temporal_tenancy.outbox.enqueue`.

    Returns:
        The id of the new message, or of the existing message with this key.

    Raises:
        ScopeMissing: no `tenant_atomic()` is open on the database.
        TenancyError: any other error that `temporal_tenancy.outbox.enqueue` raises.
        psycopg.Error: a database error, without values of rows.
    """
    return enqueue_in(
        connection_in_block(using),
        job,
        input,
        key=key,
        at=at,
        priority=priority,
        correlation_id=correlation_id,
    )


def once(consumer: str, event_id: str, *, using: str = DEFAULT_DB_ALIAS) -> bool:
    """Records that `consumer` processes `event_id`, in the `tenant_atomic()` that is open.

    Returns:
        Whether the event is new to this consumer; False means that the effect has happened already.

    Raises:
        ScopeMissing: no `tenant_atomic()` is open on the database.
        TenantMismatch: the transaction belongs to another tenant than the scope.
    """
    return once_in(connection_in_block(using), consumer, event_id)
