"""Requests jobs, and records events, in a `tenant_transaction()` on a raw connection."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

import psycopg
from pydantic import BaseModel

from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.outbox._events import record_once
from temporal_tenancy.outbox.awaiting import in_block
from temporal_tenancy.outbox.enqueueing import enqueue_id, enqueue_several, named
from temporal_tenancy.postgres.raw_session import RawSession, finish
from temporal_tenancy.postgres.transactions import bound_session

Result = TypeVar("Result")

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
) -> Coroutine[Any, Any, UUID]: ...


def enqueue_in(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    job: str | type,
    input: Input,
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> UUID | Coroutine[Any, Any, UUID]:
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
    session = bound_session(connection)
    work = enqueue_id(
        session, job, input, key=key, at=at, priority=priority, correlation_id=correlation_id
    )
    return _done(session, work, f"enqueue_in({named(job)})")


@overload
def enqueue_many_in(
    connection: psycopg.Connection[Any],
    job: str | type,
    inputs: Sequence[Input],
    *,
    keys: Sequence[str | None] | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> list[UUID]: ...


@overload
def enqueue_many_in(
    connection: psycopg.AsyncConnection[Any],
    job: str | type,
    inputs: Sequence[Input],
    *,
    keys: Sequence[str | None] | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Coroutine[Any, Any, list[UUID]]: ...


def enqueue_many_in(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    job: str | type,
    inputs: Sequence[Input],
    *,
    keys: Sequence[str | None] | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> list[UUID] | Coroutine[Any, Any, list[UUID]]:
    """Requests one job for several inputs, in the `tenant_transaction()` of `connection`.

    One statement writes them all, after every input was checked. The other arguments are those of
    `enqueue_many`. Await the result of an `AsyncConnection`.

    Returns:
        The messages' ids, in the order of `inputs`.

    Raises:
        ScopeMissing: no `tenant_transaction()` is open on the connection, or no scope.
        ValueError: `keys` and `inputs` differ in length.
        TenancyError: any other error that `enqueue_many` raises.
        psycopg.Error: a database error, without values of rows.
    """
    session = bound_session(connection)
    work = enqueue_several(
        session, job, inputs, keys=keys, at=at, priority=priority, correlation_id=correlation_id
    )
    return _done(session, work, f"enqueue_many_in({named(job)})")


@overload
def once_in(connection: psycopg.Connection[Any], consumer: str, event_id: str) -> bool: ...


@overload
def once_in(
    connection: psycopg.AsyncConnection[Any], consumer: str, event_id: str
) -> Coroutine[Any, Any, bool]: ...


def once_in(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    consumer: str,
    event_id: str,
) -> bool | Coroutine[Any, Any, bool]:
    """Records an event as `once` does, in the `tenant_transaction()` of `connection`.

    Await the result of an `AsyncConnection`.

    Returns:
        Whether the event is new to this consumer; False means that the effect has happened already.

    Raises:
        ScopeMissing: no `tenant_transaction()` is open on the connection, or no scope.
        TenantMismatch: the transaction belongs to another tenant than the scope.
        psycopg.Error: a database error, without values of rows.
    """
    session = bound_session(connection)
    return _done(session, record_once(session, consumer, event_id), "once_in(…)")


def _done(
    session: RawSession, work: Coroutine[Any, Any, Result], name: str
) -> Result | Coroutine[Any, Any, Result]:
    """Returns the result on a sync connection, and on an async one the work to await."""
    if isinstance(session.connection, psycopg.AsyncConnection):
        return in_block(session, work, name)
    return finish(work)
