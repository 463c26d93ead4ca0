"""Asking for a job in the transaction of the data that the job is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.database import current_tenant_session
from temporal_tenancy.errors import InvalidPayload, TenancyError, TenantMismatch
from temporal_tenancy.identifiers import WorkflowId
from temporal_tenancy.inputs import read_input
from temporal_tenancy.jobs import Job, JobPriority, job_of, registry
from temporal_tenancy.outbox.models import CHANNEL
from temporal_tenancy.payloads import NotReadable, require_finite, require_storable
from temporal_tenancy.scope import current_tenant

PAYLOAD_MAX_BYTES: Final = 64 * 1024
CORRELATION_MAX_CHARACTERS: Final = 200
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)  # beyond that a time zone may leave the calendar

# The notification is sent with the commit. It names no tenant: every role may listen. The id is the
# table's to make, and where no key is given the key is made from it.
_INSERT: Final = text(f"""
    with added as (
        insert into outbox_messages
            (tenant_id, job, key, payload, priority, scheduled_at, correlation_id)
        select
            :tenant, :job, key, payload::jsonb, :priority, coalesce(:at, now()), :correlation_id
        from unnest(cast(:payloads as text[]), cast(:keys as text[]))
            with ordinality as given (payload, key, ordinality)
        order by ordinality
        on conflict (tenant_id, job, key) where status <> 'dead_letter' do nothing
        returning id, key
    ),
    told as (select pg_notify('{CHANNEL}', '') from added limit 1)
    select id, key, (select count(*) from told) from added order by id
""")
_EXISTING: Final = text("""
    select key, id from outbox_messages
    where tenant_id = :tenant and job = :job and key = any(cast(:keys as text[]))
        and status <> 'dead_letter'
""")


class PayloadTooLarge(TenancyError):
    """A message holds references, not data."""


async def enqueue(
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> UUID:
    """Asks for a job of the current tenant's, in the transaction of the open `tenant_session()`.

    The job is started when that transaction has been committed, and never if it is rolled back.

    Args:
        job: a job's name, or its class.
        input: the job's input, as its model or as fields; the tenant is the session's, and may be
            left out of fields.
        key: of the workflow id, and what makes the job's effect one. A key that is waiting already
            is the same message. The message's id if not given.
        at: not before this time (aware); at once if not given.
        priority: the job's own if not given.
        correlation_id: what the message belongs to, for logs; the runs have it in their memo. One
            line of 200 characters at most.

    Returns:
        The message's id, or that of the message which has this key already.

    Raises:
        ScopeMissing: no `tenant_session()` is open.
        UnknownJob: there is no such job of tenants'.
        InvalidPayload: the input does not fit the job, or cannot be read back: it nests deeper than
            100 levels, has a number that is not finite or of more than 1,000 digits, a NUL, or half
            a surrogate pair. Or `at` has no offset, or is no time from 1970 on; or `correlation_id`
            is not one printable line.
        TenantMismatch: the input names another tenant, or the key cannot be part of an id.
        PayloadTooLarge: the input is over 64 KiB as JSON.
    """
    [message_id] = await enqueue_many(
        job, [input], keys=[key], at=at, priority=priority, correlation_id=correlation_id
    )
    return message_id


async def enqueue_many(
    job: str | type,
    inputs: Sequence[BaseModel | Mapping[str, Any]],
    *,
    keys: Sequence[str | None] | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> list[UUID]:
    """As `enqueue`, for several inputs of one job in one statement; `keys` are as many, or None.

    Returns the messages' ids in the order of `inputs`.
    """
    session = current_tenant_session()
    tenant = current_tenant()
    wanted = _tenant_job(job)
    if at is not None and at.utcoffset() is None:
        raise InvalidPayload(f"the time of {wanted.name} has no offset. Give an aware datetime.")
    if at is not None and not EARLIEST <= at <= LATEST:
        raise InvalidPayload(
            f"the time of {wanted.name} is not between the years {EARLIEST.year} and "
            f"{LATEST.year - 1}. Leave it out for at once."
        )
    if correlation_id is not None:
        _require_line(wanted, correlation_id)
    named = [None] * len(inputs) if keys is None else list(keys)
    for key in named:
        if key is not None:
            WorkflowId(tenant, wanted.name, key)  # raises where it cannot be one
    values: dict[str, Any] = {
        "tenant": tenant,
        "job": wanted.name,
        "payloads": [_payload(wanted, tenant, input) for input in inputs],
        "keys": named,
        "priority": int(wanted.priority if priority is None else priority),
        "at": at,
        "correlation_id": correlation_id,
    }
    found = await _insert(session, values)
    while None in found:
        # A message that had a key already was done with, and deleted, in between.
        missing = [index for index, message_id in enumerate(found) if message_id is None]
        again = {name: [values[name][index] for index in missing] for name in ("payloads", "keys")}
        for index, message_id in zip(missing, await _insert(session, values | again), strict=True):
            found[index] = message_id
    return [message_id for message_id in found if message_id is not None]


async def _insert(session: AsyncSession, values: Mapping[str, Any]) -> list[UUID | None]:
    """The messages' ids; None where a message has the key already and is not there any more."""
    added = {row.key: row.id for row in await session.execute(_INSERT, values)}
    keys: Sequence[str | None] = values["keys"]
    # Each of those without a key is added, in their order, and so are their ids.
    unnamed = iter([id for key, id in added.items() if key == str(id)])
    if any(key is not None and key not in added for key in keys):
        added |= {row.key: row.id for row in await session.execute(_EXISTING, values)}
    return [next(unnamed) if key is None else added.get(key) for key in keys]


def _tenant_job(job: str | type) -> Job:
    found = registry.get_or_raise(job) if isinstance(job, str) else job_of(job)
    if found is None or not found.is_asked_for:
        # In the words of an unknown one, which list those that there are.
        return registry.get_or_raise("" if found is None else f"{found.name} (the platform's)")
    return found


def _payload(job: Job, tenant: str, input: BaseModel | Mapping[str, Any]) -> str:
    """The input as it is kept: checked, as JSON, without the tenant, which the row has."""
    what = f"the input of {job.name}"
    try:
        model = _model(job, tenant, input, what)
        payload = model.model_dump_json(exclude={"tenant_id"})
        size = len(payload.encode())
        if size > PAYLOAD_MAX_BYTES:
            raise PayloadTooLarge(
                f"{what} is {size:,} bytes, and a message holds {PAYLOAD_MAX_BYTES:,}. Store the "
                "data, and put a reference to it into the input."
            )
        require_finite(model.model_dump(exclude={"tenant_id"}))
        require_storable(payload)
    except NotReadable as error:
        raise InvalidPayload(
            f"{what} could not be read back: it {error}. Store the data, and put a reference to it "
            "into the input."
        ) from None
    except (PydanticSerializationError, UnicodeEncodeError, RecursionError):
        # Its own words may repeat a value.
        raise InvalidPayload(
            f"{what} cannot be written as JSON: it nests too deep, or has half a surrogate pair or "
            "a value that JSON has not. Store the data, and put a reference to it into the input."
        ) from None
    return payload


def _model(job: Job, tenant: str, input: BaseModel | Mapping[str, Any], what: str) -> BaseModel:
    """The input as the job's own model; raises where it names another tenant, or does not fit."""
    values = input.model_dump() if isinstance(input, BaseModel) else dict(input)
    named = values.setdefault("tenant_id", tenant)
    if named != tenant:
        raise TenantMismatch(
            f'a message of tenant "{named}" cannot be written in a session of "{tenant}". '
            "Leave tenant_id out: the session sets it."
        )
    if isinstance(input, job.input_model):
        return input
    return read_input(job.input_model, values, what=what)


def _require_line(job: Job, correlation_id: str) -> None:
    if len(correlation_id) > CORRELATION_MAX_CHARACTERS or not correlation_id.isprintable():
        raise InvalidPayload(
            f"the correlation_id of {job.name} is one printable line of "
            f"{CORRELATION_MAX_CHARACTERS} characters at most. Shorten it."
        )
