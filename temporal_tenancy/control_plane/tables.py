"""The tables of the control plane. The role `tenancy_platform` reads and writes them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from temporal_tenancy.core.directory import TenantStatus

NAMING_CONVENTION: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""A name for every constraint, so that a migration can name the one it changes."""


TEXT_MAX_CHARACTERS: Final = 1_000
"""Of any text that a tenant's role may write into a table of the library's."""


class LedgerState(StrEnum):
    """How far a tenant's part of a tick has come."""

    PLANNED = "planned"  # selected; its child workflow has not started
    RUNNING = "running"  # its child workflow has started
    SUCCEEDED = "succeeded"  # done, and never started again
    FAILED = "failed"  # its child workflow failed; may start again
    SKIPPED = "skipped"  # not started, for the reason beside it
    NOT_STARTED = "not_started"  # selected, but its tick ended before its turn


class TickState(StrEnum):
    """How far a tick has come."""

    RUNNING = "running"  # tenants are being enumerated, or their children run
    ENDED = "ended"  # every tenant's row is final
    FAILED = "failed"  # the fan-out itself failed
    CANCELLED = "cancelled"  # stopped by a person; the rest was not started
    MISSED = "missed"  # was due, and never began


class DeadLetterState(StrEnum):
    """What has become of a dead letter."""

    OPEN = "open"  # waits for a person
    REPLAYED = "replayed"  # started again; opened anew if that fails too
    RESOLVED = "resolved"  # its job has succeeded since
    DISCARDED = "discarded"  # a person has decided that it is not run again


def one_of(column: str, values: type[StrEnum]) -> str:
    """The check that `column` has one of `values`."""
    return f"{column} in ({', '.join(repr(value.value) for value in values)})"


def readable(*columns: str) -> str:
    """The check that times are finite, and ones that Python holds in every time zone."""
    span = "between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00'"
    return " and ".join(f"{column} {span}" for column in columns)


def short(*columns: str) -> str:
    """The check that texts are no longer than any that the library writes."""
    return " and ".join(f"char_length({column}) <= {TEXT_MAX_CHARACTERS}" for column in columns)


class ControlPlane(DeclarativeBase):
    """The tables' common base."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # SQLAlchemy's own, read once by the mapper
        str: Text(),
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text()),
        dict[str, Any]: JSONB(),
        dict[str, float]: JSONB(),
    }


class PlanRow(ControlPlane):
    """A tier; `temporal_tenancy.core.directory.Plan` says what its fields mean."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(primary_key=True)
    fairness_weight: Mapped[float] = mapped_column(server_default=text("1"))
    concurrency_cap: Mapped[int | None]
    rate_limits: Mapped[dict[str, float]] = mapped_column(server_default=text("'{}'"))
    features: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    retention_days: Mapped[int | None]

    __table_args__ = (
        CheckConstraint("fairness_weight between 0.001 and 1000", name="fairness_weight"),
        CheckConstraint("concurrency_cap >= 1", name="concurrency_cap"),
        CheckConstraint("retention_days >= 1", name="retention_days"),
    )


class TenantRow(ControlPlane):
    """A customer organisation; `core.directory.Tenant` says what its fields mean."""

    __tablename__ = "tenants"

    # In the order of bytes, as Python sorts them: keyset pages go by it.
    id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    name: Mapped[str]
    status: Mapped[str]
    status_since: Mapped[datetime] = mapped_column(server_default=func.now())
    status_reason: Mapped[str | None]
    resumes_as: Mapped[str | None]  # while it is suspended: its status before
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    features: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    trial_ends_at: Mapped[datetime | None]

    plan: Mapped[PlanRow] = relationship(lazy="raise")

    __table_args__ = (
        CheckConstraint("id ~ '^[a-z0-9][a-z0-9_-]{0,62}$' and id <> 'platform'", name="id"),
        CheckConstraint(one_of("status", TenantStatus), name="status"),
        Index(None, "time_zone", "id"),
    )


class TickRow(ControlPlane):
    """One period of a scheduled job, over all tenants."""

    __tablename__ = "ticks"

    job: Mapped[str] = mapped_column(primary_key=True)
    tick: Mapped[str] = mapped_column(primary_key=True)
    nominal_time: Mapped[datetime | None]
    workflow_id: Mapped[str | None]  # of the fan-out that began last; None: none ever did
    run_id: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    planned_at: Mapped[datetime | None]  # when every tenant had a row; None: that never came
    ended_at: Mapped[datetime | None]
    state: Mapped[str]
    reason: Mapped[str | None]  # why it was missed, or failed

    __table_args__ = (
        CheckConstraint(one_of("state", TickState), name="state"),
        Index(None, "started_at"),
    )


class LedgerRow(ControlPlane):
    """One tenant's part of a tick: whether the job ran for it, and why not."""

    __tablename__ = "ledger"

    job: Mapped[str] = mapped_column(primary_key=True)
    tick: Mapped[str] = mapped_column(primary_key=True)
    # No foreign key: an application may bring a directory of its own.
    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    state: Mapped[str]
    reason: Mapped[str | None]
    error_type: Mapped[str | None]
    workflow_id: Mapped[str | None]
    run_id: Mapped[str | None]
    planned_by: Mapped[str | None]  # the workflow id of the fan-out whose turn it is to run it
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())  # not started before
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    planned_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("state", LedgerState), name="state"),
        Index(None, "job", "tick", "state"),
        Index(None, "job", "tick", "due_at", "tenant_id"),
        Index(None, "tenant_id", "job"),
    )


class ServerCheckRow(ControlPlane):
    """What was last found of a server by trying it, for those who cannot try it each time."""

    __tablename__ = "server_checks"

    name: Mapped[str] = mapped_column(primary_key=True)
    holds: Mapped[bool]
    message: Mapped[str]
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AdmissionRow(ControlPlane):
    """What a person has decided of the messages that a tenant has waiting, beside its plan."""

    __tablename__ = "admission"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    paused_since: Mapped[datetime | None]  # none is released while this is set
    paused_reason: Mapped[str | None]
    concurrency_cap: Mapped[int | None]  # in the place of the plan's; None: the plan's

    __table_args__ = (CheckConstraint("concurrency_cap >= 1", name="concurrency_cap"),)


class InFlightRow(ControlPlane):
    """A workflow that a relay has started for a tenant with a cap, and that has not ended."""

    __tablename__ = "in_flight"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())  # that it still runs

    __table_args__ = (Index(None, "checked_at"),)


class DeadLetterRow(ControlPlane):
    """A tenant's job that has failed for good. A workflow id has one.

    Its input is in the tenant's own outbox, as a message with the status `dead_letter`.
    """

    __tablename__ = "dead_letters"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    job: Mapped[str]
    source: Mapped[str]  # "relay", "message" (one of several in a workflow), or "workflow"
    workflow_id: Mapped[str]  # {tenant}/{job}/{key}, whether or not it was ever started
    run_id: Mapped[str | None]  # None: it was not
    message_id: Mapped[UUID | None]  # of the outbox; None: the input could not be kept
    error_type: Mapped[str]
    message: Mapped[str]
    fingerprint: Mapped[str]  # the same for failures of one kind
    attempts: Mapped[int]
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[str] = mapped_column(server_default=text("'open'"))
    replays: Mapped[int] = mapped_column(server_default=text("0"))
    handled_at: Mapped[datetime | None]  # replayed, resolved or discarded last
    handled_by: Mapped[str | None]  # a user, or what has seen that it succeeded
    replay_run_id: Mapped[str | None]  # that the last replay started
    told_at: Mapped[datetime | None]  # when people were told of it; None: they are to be

    __table_args__ = (
        CheckConstraint(one_of("status", DeadLetterState), name="status"),
        # Tenants' workers write letters, and the platform's code reads them, many at a time.
        CheckConstraint(
            readable("failed_at", "recorded_at", "handled_at", "told_at"), name="times"
        ),
        CheckConstraint(
            short("job", "source", "workflow_id", "run_id", "error_type", "message"), name="sizes"
        ),
        CheckConstraint("starts_with(workflow_id, tenant_id || '/' || job || '/')", name="owner"),
        CheckConstraint("fingerprint ~ '^[0-9a-f]{16}$'", name="fingerprint"),
        Index("uq_dead_letters_tenant_id_workflow_id", "tenant_id", "workflow_id", unique=True),
        Index(None, "status", "failed_at"),
        Index(None, "fingerprint", "status"),
        Index("ix_dead_letters_untold", "fingerprint", postgresql_where=text("told_at is null")),
    )


class PositionRow(ControlPlane):
    """How far something has come that goes on from there the next time."""

    __tablename__ = "positions"

    name: Mapped[str] = mapped_column(primary_key=True)
    upto: Mapped[datetime]


class LockRow(ControlPlane):
    """Something that one process does at a time: whoever has the row locked."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(primary_key=True)


class AlertRow(ControlPlane):
    """When people were last told of something, so that they are not told all the time."""

    __tablename__ = "alerts"

    name: Mapped[str] = mapped_column(primary_key=True)  # what of; a fingerprint is part of it
    sent_at: Mapped[datetime]
    suppressed: Mapped[int] = mapped_column(server_default=text("0"))  # since then


class ApiKeyRow(ControlPlane):
    """A key by which a tenant's own programs call; the key itself is kept nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    # No foreign key: an application may bring a directory of its own.
    tenant_id: Mapped[str] = mapped_column(Text(collation="C"))
    name: Mapped[str]  # for people
    digest: Mapped[bytes] = mapped_column(unique=True)  # SHA-256 of the key
    prefix: Mapped[str]  # the key's first characters, by which people tell it from others
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]  # to the minute
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        Index(None, "tenant_id", "created_at"),
    )
