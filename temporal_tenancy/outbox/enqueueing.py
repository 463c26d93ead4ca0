"""Asking for a job in the transaction of the data that the job is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.admission import CHANNEL
from temporal_tenancy.core.errors import InvalidPayload, TenancyError, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import Job, JobPriority, job_of, registry
from temporal_tenancy.core.payloads import (
    PAYLOAD_MAX_BYTES,
    NotReadable,
    read,
    require_finite,
    require_storable,
    require_writable,
)
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.outbox.models import MessageStatus
from temporal_tenancy.postgres.database import current_tenant_session

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
        returning id, key, scheduled_at
    ),
    told as (select pg_notify('{CHANNEL}', '') from added limit 1)
    select id, key, scheduled_at, (select count(*) from told) from added order by id
""")
# What is the same to the database is the same to everybody, and need not be read.
_EXISTING: Final = text("""
    select m.key, m.id, m.status, m.scheduled_at, m.payload = given.payload::jsonb as is_same
    from unnest(cast(:payloads as text[]), cast(:keys as text[])) as given (payload, key)
    join outbox_messages as m on m.tenant_id = :tenant and m.job = :job and m.key = given.key
        and m.status <> 'dead_letter'
""")


class PayloadTooLarge(TenancyError):
    """A message holds references, not data."""


class KeyTaken(TenancyError):
    """A message has this key already, and asks for the job with another input."""


@dataclass(frozen=True)
class Enqueued:
    """The message that a request is, or that an earlier one with its key was."""

    id: UUID
    key: str
    added: bool  # by this request; False: it was there already, and is left as it is
    status: MessageStatus
    scheduled_at: datetime  # not before


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
            is the same message. If not given: the period of a job that has one, and of any other
            the message's id.
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
            a surrogate pair. Or the job has a period, and the key is another one or none. Or `at`
            has no offset, or is no time from 1970 on; or `correlation_id` is not one printable
            line.
        TenantMismatch: the input names another tenant, or the key cannot be part of an id.
        PayloadTooLarge: the input is over 64 KiB as JSON.
        KeyTaken: a message has this key already, with another input.
    """
    asked = await enqueue_or_find(
        job, input, key=key, at=at, priority=priority, correlation_id=correlation_id
    )
    return asked.id


async def enqueue_or_find(
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Enqueued:
    """As `enqueue`, for who wants to know whether the message was there already, and its time.

    Returns the message, also where an earlier request wrote it. Raises what `enqueue` does.
    """
    [asked] = await _enqueue_many(
        job, [input], keys=[key], at=at, priority=priority, correlation_id=correlation_id
    )
    return asked


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

    Raises:
        KeyTaken: also where one key is to have two inputs; nothing is written.
        ValueError: `keys` are not as many as `inputs`.
        TenancyError: as `enqueue`, for any of them; nothing is written.
    """
    named = [None] * len(inputs) if keys is None else keys
    asked = await _enqueue_many(
        job, inputs, keys=named, at=at, priority=priority, correlation_id=correlation_id
    )
    return [each.id for each in asked]


async def _enqueue_many(
    job: str | type,
    inputs: Sequence[BaseModel | Mapping[str, Any]],
    *,
    keys: Sequence[str | None],
    at: datetime | None,
    priority: JobPriority | None,
    correlation_id: str | None,
) -> list[Enqueued]:
    session = current_tenant_session()
    tenant = current_tenant()
    wanted = _tenant_job(job)
    if at is not None:
        require_time(wanted.name, at)
    if correlation_id is not None:
        _require_line(wanted, correlation_id)
    payloads: list[str] = []
    named: list[str | None] = []
    for input, given in zip(inputs, keys, strict=True):
        if given is not None:
            WorkflowId(tenant, wanted.name, given)  # raises where it cannot be one
        payload, key = _payload(wanted, tenant, input, given)
        payloads.append(payload)
        named.append(key)
    values: dict[str, Any] = {
        "tenant": tenant,
        "job": wanted.name,
        "payloads": payloads,
        "keys": named,
        "priority": int(wanted.priority if priority is None else priority),
        "at": at,
        "correlation_id": correlation_id,
    }
    _require_one_input(wanted, tenant, values)
    found = await _insert(session, wanted, values)
    while None in found:
        # A message that had a key already was done with, and deleted, in between.
        missing = [index for index, asked in enumerate(found) if asked is None]
        again = {name: [values[name][index] for index in missing] for name in ("payloads", "keys")}
        added = await _insert(session, wanted, values | again)
        for index, asked in zip(missing, added, strict=True):
            found[index] = asked
    return [asked for asked in found if asked is not None]


def require_time(what: str, at: datetime) -> None:
    """Raises `InvalidPayload` where a message could not wait for `at`; `what` names its job."""
    if at.utcoffset() is None:
        raise InvalidPayload(f"the time of {what} has no offset. Give an aware datetime.")
    if not EARLIEST <= at <= LATEST:
        raise InvalidPayload(
            f"the time of {what} is not between the years {EARLIEST.year} and "
            f"{LATEST.year - 1}. Leave it out for at once."
        )


async def _insert(
    session: AsyncSession, job: Job, values: Mapping[str, Any]
) -> list[Enqueued | None]:
    """What has each key now; None where a message had it already and is not there any more."""
    added = {
        row.key: Enqueued(row.id, row.key, True, MessageStatus.PENDING, row.scheduled_at)
        for row in await session.execute(_INSERT, values)
    }
    keys: Sequence[str | None] = values["keys"]
    # Each of those without a key is added, in their order, and so are their ids.
    unnamed = iter([asked for key, asked in added.items() if key == str(asked.id)])
    if any(key is not None and key not in added for key in keys):
        added = await _existing(session, job, values) | added
    return [next(unnamed) if key is None else added.get(key) for key in keys]


async def _existing(
    session: AsyncSession, job: Job, values: Mapping[str, Any]
) -> dict[str, Enqueued]:
    """The messages that have the keys; raises `KeyTaken` where one has another input."""
    rows = (await session.execute(_EXISTING, values)).all()
    tenant: str = values["tenant"]
    others = [(tenant, row.id) for row in rows if not row.is_same]
    if others:
        wanted = dict(zip(values["keys"], values["payloads"], strict=True))
        texts = await payload_texts(session, others)
        for row in rows:
            kept = texts.get((tenant, row.id))
            # One that is gone by now is asked for again.
            if kept is not None and not _is_same(job, tenant, kept, wanted[row.key]):
                raise KeyTaken(
                    f"{WorkflowId(tenant, job.name, row.key)} is asked for already, with another "
                    f"input: by the message {row.id}, which is {row.status}. Give another key, or "
                    "cancel that message while it waits."
                )
        gone = {key for key in others if key not in texts}
        rows = [row for row in rows if (tenant, row.id) not in gone]
    return {
        row.key: Enqueued(row.id, row.key, False, MessageStatus(row.status), row.scheduled_at)
        for row in rows
    }


def _is_same(job: Job, tenant: str, kept: str, wanted: str) -> bool:
    """Whether two payloads (JSON) are one input to the job as it is today."""
    try:
        models = [
            job.input_model.model_validate({**read(each), "tenant_id": tenant}, extra="forbid")
            for each in (kept, wanted)
        ]
    except Exception:  # whatever a job's own model raises: it is none that could run
        return False
    return models[0] == models[1]


def _require_one_input(job: Job, tenant: str, values: Mapping[str, Any]) -> None:
    """Refuses a batch in which one key is to have several inputs."""
    first: dict[str, str] = {}
    for key, payload in zip(values["keys"], values["payloads"], strict=True):
        if key is None:
            continue
        other = first.setdefault(key, payload)
        if other != payload and not _is_same(job, tenant, other, payload):
            raise KeyTaken(
                f"{WorkflowId(tenant, job.name, key)} is asked for twice at once, with different "
                "inputs. Give each a key of its own."
            )


def _tenant_job(job: str | type) -> Job:
    found = registry.get_or_raise(job) if isinstance(job, str) else job_of(job)
    if found is None or not found.is_asked_for:
        # In the words of an unknown one, which list those that there are.
        return registry.get_or_raise("" if found is None else f"{found.name} (the platform's)")
    return found


def _payload(
    job: Job, tenant: str, input: BaseModel | Mapping[str, Any], key: str | None
) -> tuple[str, str | None]:
    """The input as it is kept (checked, as JSON, without the tenant, which the row has), its key.

    None for a key that is made from the message's id.
    """
    what = f"the input of {job.name}"
    try:
        require_writable(input)
        model = _model(job, tenant, input, key, what)
        key = job.key_of(model, key)
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
    return payload, key


def _model(
    job: Job, tenant: str, input: BaseModel | Mapping[str, Any], key: str | None, what: str
) -> BaseModel:
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
    if key is not None:
        values = job.with_period(values, key)
    return read_input(job.input_model, values, what=what)


def _require_line(job: Job, correlation_id: str) -> None:
    if len(correlation_id) > CORRELATION_MAX_CHARACTERS or not correlation_id.isprintable():
        raise InvalidPayload(
            f"the correlation_id of {job.name} is one printable line of "
            f"{CORRELATION_MAX_CHARACTERS} characters at most. Shorten it."
        )
