"""Requests jobs, and records events, in a `tenant_transaction()` on a raw connection."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, overload
from uuid import UUID

import psycopg
from pydantic import BaseModel

from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.outbox._events import once
from temporal_tenancy.outbox.enqueueing import enqueue_on
from temporal_tenancy.postgres.raw_session import RawSession, finish
from temporal_tenancy.postgres.transactions import bound_session

Input = BaseModel | Mapping[str, Any]  # the fields of any job


@overload
def enqueue_in(
    connection: psycopg.Connection[Any],
    job: str | type,
    input: Input,
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> UUID: ...


@overload
def enqueue_in(
    connection: psycopg.AsyncConnection[Any],
    job: str | type,
    input: Input,
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Awaitable[UUID]: ...


def enqueue_in(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    job: str | type,
    input: Input,
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> UUID | Awaitable[UUID]:
    """Requests a job for the current tenant, in the `tenant_transaction()` of `connection`.

    The job starts once that transaction commits, and never if it rolls back. The other arguments
    are those of `enqueue`. Await the result of an `AsyncConnection`.

    Returns:
        The id of the new message, or of the existing message with this key.

    Raises:
        ScopeMissing: no `tenant_transaction()` is open on the connection, or no scope.
        TenancyError: any other error that `enqueue` raises.
        psycopg.Error: a database error, without values of rows.
    """
    work = _enqueue(
        bound_session(connection),
        job,
        input,
        key=key,
        at=at,
        priority=priority,
        correlation_id=correlation_id,
    )
    return work if isinstance(connection, psycopg.AsyncConnection) else finish(work)


@overload
def once_in(connection: psycopg.Connection[Any], consumer: str, event_id: str) -> bool: ...


@overload
def once_in(
    connection: psycopg.AsyncConnection[Any], consumer: str, event_id: str
) -> Awaitable[bool]: ...


def once_in(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    consumer: str,
    event_id: str,
) -> bool | Awaitable[bool]:
    """Records an event as `once` does, in the `tenant_transaction()` of `connection`.

    Await the result of an `AsyncConnection`.

    Returns:
        Whether the event is new to this consumer; False means that the effect has happened already.

    Raises:
        ScopeMissing: no `tenant_transaction()` is open on the connection, or no scope.
        TenantMismatch: the transaction belongs to another tenant than the scope.
        psycopg.Error: a database error, without values of rows.
    """
    work = once(bound_session(connection), consumer, event_id)
    return work if isinstance(connection, psycopg.AsyncConnection) else finish(work)


async def _enqueue(
    session: RawSession,
    job: str | type,
    input: Input,
    *,
    key: str | None,
    at: datetime | None,
    priority: JobPriority | None,
    correlation_id: str | None,
) -> UUID:
    [request] = await enqueue_on(
        session,
        job,
        [input],
        keys=[key],
        at=at,
        priority=priority,
        correlation_id=correlation_id,
    )
    return request.id
