"""Requests jobs in the same transaction as the data that they work on."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
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
from temporal_tenancy.core.trace_context import current_traceparent
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters.payload_texts import payload_texts
from temporal_tenancy.outbox.awaiting import in_block
from temporal_tenancy.outbox.tables import IS_LIVE, MessageStatus
from temporal_tenancy.postgres.database import current_tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.library_text import library_text
from temporal_tenancy.postgres.raw_session import RawSession

CORRELATION_MAX_CHARACTERS: Final = 200
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
TRIES: Final = 10  # to write a request whose message is there and then gone, each time
LATEST: Final = datetime(
    9999, 1, 1, tzinfo=UTC
)  # later, a time zone's offset may leave the calendar

# The notification is sent on commit. It names no tenant, because every role may listen. The table
# generates the id, and from it the key where the request has none.
_INSERT: Final = library_text(f"""
    with added as (
        insert into tenancy.outbox_messages
            (tenant_id, job, key, payload, priority, scheduled_at, correlation_id, traceparent)
        select
            :tenant, :job, key, payload::jsonb, :priority, coalesce(:at, now()), :correlation_id,
            :traceparent
        from unnest(cast(:payloads as text[]), cast(:keys as text[]))
            with ordinality as request (payload, key, ordinality)
        order by ordinality
        on conflict (tenant_id, job, key) where {IS_LIVE} do nothing
        returning id, key, scheduled_at
    ),
    notified as (select pg_notify('{CHANNEL}', '') from added limit 1)
    select id, key, scheduled_at, (select count(*) from notified) from added order by id
""")
# Payloads that the database finds equal need not be read and compared again.
_EXISTING: Final = library_text(f"""
    select m.key, m.id, m.status, m.scheduled_at, m.payload = request.payload::jsonb as is_same
    from unnest(cast(:payloads as text[]), cast(:keys as text[])) as request (payload, key)
    join tenancy.outbox_messages as m
        on m.tenant_id = :tenant and m.job = :job and m.key = request.key
        and m.{IS_LIVE}
""")
_TAKE_BACK: Final = library_text("""
    delete from tenancy.outbox_messages
    where tenant_id = :tenant and id = any(cast(:ids as uuid[]))
    returning id
""")


class PayloadTooLarge(TenancyError):
    """The input is too large for a message, which holds references and not data."""


class KeyTaken(TenancyError):
    """Another message already has this key and requests the job with a different input."""


@dataclass(frozen=True)
class Enqueued:
    """The message of a request: a new one, or the existing one with the same key."""

    id: UUID
    key: str  # the last part of the workflow id
    added: bool  # whether this request added it; an existing message is left unchanged
    status: MessageStatus
    scheduled_at: datetime  # aware; the earliest start


def enqueue(
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Coroutine[Any, Any, UUID]:
    """Requests a job for the current tenant, in the transaction of the open `tenant_session()`.

    The job starts once that transaction commits, and never if it rolls back. Await the result
    before the session ends; it is refused otherwise.

    Args:
        job: the job's name or its class.
        input: the job's input, as its model or as a mapping of fields. The session sets the tenant,
            so a mapping may omit it.
        key: the last part of the workflow id, unique for this tenant and job. While a message with
            this key exists and is not a dead letter, a second request returns it. Defaults to the
            input's period for a job that has one, and to the message's id for any other job.
        at: the earliest start, an aware datetime from 1970 to 9998. Defaults to now.
        priority: defaults to the job's own.
        correlation_id: what the message belongs to, for logs; the run carries it in its memo. One
            printable line of up to 200 characters.

    Returns:
        The id of the new message, or of the existing message with this key.

    Raises:
        ScopeMissing: no `tenant_session()` is open.
        UnknownJob: no tenant job has this name.
        InvalidPayload: the input does not fit the job or could not be read back: it nests more than
            100 levels deep, or has a number that is not finite or has more than 1,000 digits, a
            NUL, or half a surrogate pair. Also if the job has a period and the key is not a period
            or differs from the input's; if `at` has no UTC offset or is out of range; and if
            `correlation_id` is too long or not one printable line.
        TenantMismatch: the input names another tenant, or the key cannot be part of a workflow id.
        PayloadTooLarge: the input is over 64 KiB as JSON.
        KeyTaken: a message already has this key, with another input.
        NotAwaited: raised at the end of the session if the result was not awaited in it.
    """
    session = current_tenant_session()
    work = enqueue_id(
        session, job, input, key=key, at=at, priority=priority, correlation_id=correlation_id
    )
    return in_block(session, work, f"enqueue({named(job)})")


def enqueue_or_find(
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Coroutine[Any, Any, Enqueued]:
    """Requests a job as `enqueue` does, and returns the message with its status and time.

    The arguments are those of `enqueue`.

    Returns:
        The new message, or the existing one with this key; `added` tells which.

    Raises:
        TenancyError: any error that `enqueue` raises.
    """
    session = current_tenant_session()
    work = enqueue_one(
        session, job, input, key=key, at=at, priority=priority, correlation_id=correlation_id
    )
    return in_block(session, work, f"enqueue_or_find({named(job)})")


def enqueue_many(
    job: str | type,
    inputs: Sequence[BaseModel | Mapping[str, Any]],
    *,
    keys: Sequence[str | None] | None = None,
    at: datetime | None = None,
    priority: JobPriority | None = None,
    correlation_id: str | None = None,
) -> Coroutine[Any, Any, list[UUID]]:
    """Requests one job for several inputs, in one statement.

    Every input is checked before anything is written.

    Args:
        job: as for `enqueue`.
        inputs: one input for each request, as for `enqueue`.
        keys: one key, or None, for each input in the same order. None as a whole gives each
            request its default key.
        at: as for `enqueue`, for every request.
        priority: as for `enqueue`, for every request.
        correlation_id: as for `enqueue`, for every request.

    Returns:
        The messages' ids, in the order of `inputs`.

    Raises:
        KeyTaken: two of the requests have the same key with different inputs, or a message already
            has one of the keys with another input. None of the requests is written.
        ValueError: `keys` and `inputs` differ in length.
        TenancyError: any other error that `enqueue` raises, for any of the inputs.
    """
    session = current_tenant_session()
    work = enqueue_several(
        session, job, inputs, keys=keys, at=at, priority=priority, correlation_id=correlation_id
    )
    return in_block(session, work, f"enqueue_many({named(job)})")


async def enqueue_one(
    session: AsyncSession | RawSession,
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    *,
    key: str | None,
    at: datetime | None,
    priority: JobPriority | None,
    correlation_id: str | None,
) -> Enqueued:
    """Requests a job in the transaction of `session`; see `enqueue_or_find`."""
    [request] = await enqueue_on(
        session,
        job,
        [input],
        keys=[key],
        at=at,
        priority=priority,
        correlation_id=correlation_id,
    )
    return request


async def enqueue_id(
    session: AsyncSession | RawSession,
    job: str | type,
    input: BaseModel | Mapping[str, Any],
    **options: Any,  # those of `enqueue_one`
) -> UUID:
    """Requests a job in the transaction of `session`; see `enqueue`."""
    return (await enqueue_one(session, job, input, **options)).id


async def enqueue_several(
    session: AsyncSession | RawSession,
    job: str | type,
    inputs: Sequence[BaseModel | Mapping[str, Any]],
    *,
    keys: Sequence[str | None] | None,
    at: datetime | None,
    priority: JobPriority | None,
    correlation_id: str | None,
) -> list[UUID]:
    """Requests one job for several inputs in the transaction of `session`; see `enqueue_many`."""
    requests = await enqueue_on(
        session,
        job,
        inputs,
        keys=[None] * len(inputs) if keys is None else keys,
        at=at,
        priority=priority,
        correlation_id=correlation_id,
    )
    return [request.id for request in requests]


async def enqueue_on(
    session: AsyncSession | RawSession,
    job: str | type,
    inputs: Sequence[BaseModel | Mapping[str, Any]],
    *,
    keys: Sequence[str | None],
    at: datetime | None,
    priority: JobPriority | None,
    correlation_id: str | None,
) -> list[Enqueued]:
    """Requests one job for several inputs, in the transaction of `session`; see `enqueue_many`."""
    tenant = current_tenant()
    wanted = _tenant_job(job)
    if at is not None:
        require_time(wanted.name, at)
    if correlation_id is not None:
        _require_line(wanted, correlation_id)
    payloads: list[str] = []
    checked_keys: list[str | None] = []
    for input, requested_key in zip(inputs, keys, strict=True):
        if requested_key is not None:
            WorkflowId(tenant, wanted.name, requested_key)  # raises if it cannot be part of one
        payload, key = _payload(wanted, tenant, input, requested_key)
        payloads.append(payload)
        checked_keys.append(key)
    values: dict[str, Any] = {
        "tenant": tenant,
        "job": wanted.name,
        "payloads": payloads,
        "keys": checked_keys,
        "priority": int(wanted.priority if priority is None else priority),
        "at": at,
        "correlation_id": correlation_id,
        "traceparent": current_traceparent(),
    }
    _require_one_input(wanted, tenant, values)
    added: list[UUID] = []
    try:
        found = await _insert(session, wanted, values, added)
        tries = 1
        while None in found:
            # The existing message with this key was deleted between the two statements.
            if tries == TRIES:
                raise _not_kept(wanted)
            tries += 1
            missing = [index for index, message in enumerate(found) if message is None]
            again = {
                name: [values[name][index] for index in missing] for name in ("payloads", "keys")
            }
            more = await _insert(session, wanted, values | again, added)
            for index, message in zip(missing, more, strict=True):
                found[index] = message
    except KeyTaken as error:
        # The caller may catch the error and commit.
        await session.execute(_TAKE_BACK, {"tenant": tenant, "ids": added})
        if len(payloads) == 1:
            raise
        raise KeyTaken(
            f"{error.message} None of the {number(len(payloads), 'request')} of this call was "
            "written."
        ) from None
    return [message for message in found if message is not None]


def require_time(what: str, at: datetime) -> None:
    """Raises `InvalidPayload` if no message can be scheduled at `at`; `what` names its job."""
    if at.utcoffset() is None:
        raise InvalidPayload(f"the time of {what} has no UTC offset. Pass an aware datetime.")
    if not EARLIEST <= at <= LATEST:
        raise InvalidPayload(
            f"the time of {what} is not between the years {EARLIEST.year} and "
            f"{LATEST.year - 1}. Omit it to start the job at once."
        )


def named(job: str | type) -> str:
    """Returns a job as a call names it."""
    return f'"{job}"' if isinstance(job, str) else job.__name__


async def _insert(
    session: AsyncSession | RawSession,
    job: Job,
    values: Mapping[str, Any],
    added_ids: list[UUID],
) -> list[Enqueued | None]:
    """Adds messages; returns the one with each key, or None if an existing one is gone again.

    Appends the ids of those that it adds to `added_ids`, also if it raises `KeyTaken`.
    """
    added = {
        row.key: Enqueued(row.id, row.key, True, MessageStatus.PENDING, row.scheduled_at)
        for row in await session.execute(_INSERT, values)
    }
    added_ids += [message.id for message in added.values()]
    keys: Sequence[str | None] = values["keys"]
    # Every request without a key adds a message. Ids ascend, so these are in the requests' order.
    of_no_key = [message for key, message in added.items() if key == str(message.id)]
    if len(of_no_key) < list(keys).count(None):
        raise _not_kept(job)
    keyless = iter(of_no_key)
    if any(key is not None and key not in added for key in keys):
        added = await _existing(session, job, values) | added
    return [next(keyless) if key is None else added.get(key) for key in keys]


def _not_kept(job: Job) -> DatabaseProblem:
    return DatabaseProblem(
        f"the database did not keep a request of {job.name} as it was written. Remove the trigger "
        "or rule on outbox_messages that drops or changes requests."
    )


async def _existing(
    session: AsyncSession | RawSession, job: Job, values: Mapping[str, Any]
) -> dict[str, Enqueued]:
    """Returns the messages that have the keys; raises `KeyTaken` if an input differs."""
    rows = (await session.execute(_EXISTING, values)).all()
    tenant: str = values["tenant"]
    different = [(tenant, row.id) for row in rows if not row.is_same]
    if different:
        wanted = dict(zip(values["keys"], values["payloads"], strict=True))
        texts = await payload_texts(session, different)
        for row in rows:
            stored = texts.get((tenant, row.id))
            # A message that is gone by now is requested again.
            if stored is not None and not _is_same(job, tenant, stored, wanted[row.key]):
                raise KeyTaken(
                    f"{WorkflowId(tenant, job.name, row.key)} is already requested with another "
                    f"input, by message {row.id} ({row.status}). Use another key, or cancel that "
                    "message while it waits."
                )
        gone = {key for key in different if key not in texts}
        rows = [row for row in rows if (tenant, row.id) not in gone]
    return {
        row.key: Enqueued(row.id, row.key, False, MessageStatus(row.status), row.scheduled_at)
        for row in rows
    }


def _is_same(job: Job, tenant: str, stored: str, wanted: str) -> bool:
    """Whether two payloads (JSON) are the same input by the job's current model."""
    try:
        models = [
            job.input_model.model_validate({**read(payload), "tenant_id": tenant}, extra="forbid")
            for payload in (stored, wanted)
        ]
    except Exception:  # a job's own model may raise anything; such an input could never run
        return False
    return models[0] == models[1]


def _require_one_input(job: Job, tenant: str, values: Mapping[str, Any]) -> None:
    """Raises `KeyTaken` if two requests in one call have the same key but different inputs."""
    first: dict[str, str] = {}
    for key, payload in zip(values["keys"], values["payloads"], strict=True):
        if key is None:
            continue
        other = first.setdefault(key, payload)
        if other != payload and not _is_same(job, tenant, other, payload):
            raise KeyTaken(
                f"{WorkflowId(tenant, job.name, key)} is requested twice in one call, with "
                "different inputs. Give each request its own key."
            )


def _tenant_job(job: str | type) -> Job:
    found = registry.get_or_raise(job) if isinstance(job, str) else job_of(job)
    if found is None or not found.is_asked_for:
        # Raises the error of an unknown job, which lists the jobs that exist.
        return registry.get_or_raise("" if found is None else f"{found.name} (the platform's)")
    return found


def _payload(
    job: Job, tenant: str, input: BaseModel | Mapping[str, Any], key: str | None
) -> tuple[str, str | None]:
    """Returns the checked input as JSON without the tenant (the row names it), and its key.

    The key is None where the table makes it from the message's id.
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
                f"{what} is {number(size, 'byte')}, more than the {PAYLOAD_MAX_BYTES:,} that a "
                "message may hold. Store the data, and pass a reference to it."
            )
        require_finite(model.model_dump(exclude={"tenant_id"}))
        require_storable(payload)
    except NotReadable as error:
        raise InvalidPayload(
            f"{what} could not be read back: it {error}. Store the data, and pass a reference to "
            "it."
        ) from None
    except (PydanticSerializationError, UnicodeEncodeError, RecursionError):
        # The original error's text may repeat a value of the tenant's.
        raise InvalidPayload(
            f"{what} cannot be written as JSON: it nests too deeply, or has half a surrogate pair "
            "or a value that JSON cannot express. Store the data, and pass a reference to it."
        ) from None
    return payload, key


def _model(
    job: Job, tenant: str, input: BaseModel | Mapping[str, Any], key: str | None, what: str
) -> BaseModel:
    """Returns the input as the job's model; raises if it names another tenant or does not fit."""
    values = input.model_dump() if isinstance(input, BaseModel) else dict(input)
    input_tenant = values.setdefault("tenant_id", tenant)
    if input_tenant != tenant:
        raise TenantMismatch(
            f'a message of tenant "{input_tenant}" cannot be written in a session of "{tenant}". '
            "Omit tenant_id: the session sets it."
        )
    if isinstance(input, job.input_model):
        return input
    if key is not None:
        values = job.with_period(values, key)
    return read_input(job.input_model, values, what=what)


def _require_line(job: Job, correlation_id: str) -> None:
    if len(correlation_id) > CORRELATION_MAX_CHARACTERS or not correlation_id.isprintable():
        raise InvalidPayload(
            f"the correlation_id of {job.name} is not one printable line of up to "
            f"{CORRELATION_MAX_CHARACTERS} characters. Shorten it."
        )
