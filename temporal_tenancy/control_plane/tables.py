"""The tables of the control plane, which the role `tenancy_platform` reads and writes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
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
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres.installation import SCHEMA

NAMING_CONVENTION: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""Names for all constraints, so that migrations can refer to them."""


TEXT_MAX_CHARACTERS: Final = 1_000
"""The limit of texts that a tenant's role can write to the library's tables."""
USED_MAX: Final = 1_000_000_000_000_000
"""The limit of the sums of what a job used in an hour; it and its sums fit a float exactly."""


class LedgerState(StrEnum):
    """The state of one tenant's part of a tick."""

    PLANNED = "planned"  # selected; its child workflow has not started
    RUNNING = "running"  # its child workflow has started
    SUCCEEDED = "succeeded"  # done; never starts again
    FAILED = "failed"  # its child workflow failed; can start again
    SKIPPED = "skipped"  # not started, for the reason in the row
    NOT_STARTED = "not_started"  # selected, but its tick ended before its turn


class TickState(StrEnum):
    """The state of a tick."""

    RUNNING = "running"  # enumerating tenants, or running their children
    ENDED = "ended"  # every tenant's row is final
    FAILED = "failed"  # the fan-out itself failed
    CANCELLED = "cancelled"  # an operator stopped it; the rest was not started
    MISSED = "missed"  # it was due but never began


class DeadLetterState(StrEnum):
    """The state of a dead letter."""

    OPEN = "open"  # waits for an operator
    REPLAYED = "replayed"  # started again; reopened if that fails
    RESOLVED = "resolved"  # its job has succeeded since
    DISCARDED = "discarded"  # an operator decided not to run it again


IS_OPEN: Final = f"status = '{DeadLetterState.OPEN}'"
"""In SQL, the condition of a partial index."""


class ReleaseState(StrEnum):
    """The state of a worker version's release to some tenants first."""

    RAMPING = "ramping"  # new runs of its tenants start on the version
    HALTED = "halted"  # it was worse than its bounds; its tenants start on the current version
    PROMOTED = "promoted"  # the version became the current one, for everybody
    ROLLED_BACK = "rolled_back"  # an operator ended it


class StoreState(StrEnum):
    """The state of a store."""

    PREPARING = "preparing"  # being made, or its making has failed; it takes no tenant
    READY = "ready"  # made, and without a tenant
    ACTIVE = "active"  # holds rows of a tenant, and takes more up to its capacity
    DRAINING = "draining"  # keeps its tenants and takes no more


def one_of(column: str, values: Iterable[StrEnum]) -> str:
    """Returns SQL that checks that `column` has one of `values`."""
    return f"{column} in ({', '.join(repr(value.value) for value in values)})"


def readable(*columns: str) -> str:
    """Returns SQL that checks that times are finite, and valid in Python in every time zone."""
    span = "between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00'"
    return " and ".join(f"{column} {span}" for column in columns)


def short(*columns: str) -> str:
    """Returns SQL that checks that texts have at most `TEXT_MAX_CHARACTERS` characters."""
    return " and ".join(f"char_length({column}) <= {TEXT_MAX_CHARACTERS}" for column in columns)


def used(*columns: str) -> str:
    """Returns SQL that checks that sums are numbers from 0 to `USED_MAX`; NaN exceeds all."""
    return " and ".join(f"{column} between 0 and {USED_MAX}" for column in columns)


class ControlPlane(DeclarativeBase):
    """The declarative base of these tables."""

    metadata = MetaData(schema=SCHEMA, naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # SQLAlchemy's own attribute, which the mapper reads once
        str: Text(),
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text()),
        dict[str, Any]: JSONB(),
        dict[str, float]: JSONB(),
        dict[str, str]: JSONB(none_as_null=True),
    }


class PlanRow(ControlPlane):
    """A plan; `core.directory.Plan` documents the columns."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(primary_key=True)
    fairness_weight: Mapped[float] = mapped_column(server_default=text("1"))
    concurrency_cap: Mapped[int | None]
    rate_limits: Mapped[dict[str, float]] = mapped_column(server_default=text("'{}'"))
    features: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    retention_days: Mapped[int | None]
    pool_share: Mapped[float | None]
    statement_timeout: Mapped[timedelta | None]
    lock_timeout: Mapped[timedelta | None]
    idle_timeout: Mapped[timedelta | None]
    transaction_timeout: Mapped[timedelta | None]

    __table_args__ = (
        CheckConstraint("fairness_weight between 0.001 and 1000", name="fairness_weight"),
        CheckConstraint("concurrency_cap >= 1", name="concurrency_cap"),
        CheckConstraint("retention_days >= 1", name="retention_days"),
        CheckConstraint("pool_share > 0 and pool_share <= 1", name="pool_share"),
        *(
            CheckConstraint(f"{limit} between '1 ms' and '24 days'", name=limit)
            for limit in (
                *("statement_timeout", "lock_timeout", "idle_timeout", "transaction_timeout"),
            )
        ),
    )


class StoreRow(ControlPlane):
    """A place for tenants' rows; the shared one in the process's own database has no row."""

    __tablename__ = "stores"

    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)  # opaque
    isolation: Mapped[str]
    schema: Mapped[str | None] = mapped_column(unique=True)
    role: Mapped[str | None] = mapped_column(unique=True)
    secret: Mapped[str | None] = mapped_column(unique=True)  # the name of its connections' secrets
    region: Mapped[str | None]
    state: Mapped[str]
    capacity: Mapped[int | None]  # tenants; None: any number
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())
    # Its last migrations, by the environment's name, when that was seen; None: not yet.
    versions: Mapped[dict[str, str] | None]
    versions_at: Mapped[datetime | None]
    target: Mapped[str | None]  # the migrations that its wave brings
    wave: Mapped[int | None]  # 0: of the canaries
    failure: Mapped[str | None]  # why the last try to migrate it failed

    __table_args__ = (
        CheckConstraint(
            f"name ~ '^[a-z][a-z0-9_]{{0,62}}$' and name <> '{SHARED_STORE}'", name="name"
        ),
        CheckConstraint(one_of("isolation", Isolation), name="isolation"),
        CheckConstraint(one_of("state", StoreState), name="state"),
        CheckConstraint(
            "capacity >= 1 and (isolation = 'shared' or capacity = 1)", name="capacity"
        ),
        CheckConstraint(
            "(isolation = 'schema') = (schema is not null) "
            "and (schema is null) = (role is null) and (schema is null) <> (secret is null)",
            name="place",
        ),
        CheckConstraint("wave >= 0 and (wave is null) = (target is null)", name="wave"),
    )


class DeclaredSchemaRow(ControlPlane):
    """The tables that an application's migrations make, to find stores that have others."""

    __tablename__ = "declared_schemas"

    target: Mapped[str] = mapped_column(primary_key=True)  # which migrations
    objects: Mapped[list[str]]  # a line for each table, column, constraint and index
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantRow(ControlPlane):
    """A customer organisation; `core.directory.Tenant` documents the columns."""

    __tablename__ = "tenants"

    # Byte order, as in Python, because keyset pages compare ids.
    id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    name: Mapped[str]
    status: Mapped[str]
    status_since: Mapped[datetime] = mapped_column(server_default=func.now())
    status_reason: Mapped[str | None]
    resumes_as: Mapped[str | None]  # while suspended: the previous status
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    features: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    trial_ends_at: Mapped[datetime | None]
    isolation: Mapped[str] = mapped_column(server_default=text("'shared'"))
    store: Mapped[str | None] = mapped_column(
        Text(collation="C"), ForeignKey("stores.name")
    )  # None: the shared one in the process's own database

    plan: Mapped[PlanRow] = relationship(lazy="raise")
    own_store: Mapped[StoreRow | None] = relationship(lazy="raise")

    __table_args__ = (
        CheckConstraint(
            "id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$' and lower(id) <> 'platform'", name="id"
        ),
        # Ids are compared exactly. People take two that differ only by case for one.
        Index("uq_tenants_lower_id", text("lower(id)"), unique=True),
        CheckConstraint(one_of("status", TenantStatus), name="status"),
        CheckConstraint(one_of("isolation", Isolation), name="isolation"),
        CheckConstraint("isolation = 'shared' or store is not null", name="store"),
        Index(None, "time_zone", "id"),
        Index(None, "store"),
    )


class TickRow(ControlPlane):
    """One period of a scheduled job, for all tenants."""

    __tablename__ = "ticks"

    job: Mapped[str] = mapped_column(primary_key=True)
    tick: Mapped[str] = mapped_column(primary_key=True)
    nominal_time: Mapped[datetime | None]
    workflow_id: Mapped[str | None]  # of the last fan-out to begin; None: none began
    run_id: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    planned_at: Mapped[datetime | None]  # when every tenant had a row; None: not yet
    ended_at: Mapped[datetime | None]
    state: Mapped[str]
    reason: Mapped[str | None]  # why it was missed or failed

    __table_args__ = (
        CheckConstraint(one_of("state", TickState), name="state"),
        Index(None, "started_at"),
    )


class LedgerRow(ControlPlane):
    """One tenant's part of a tick: whether the job ran, or why it did not."""

    __tablename__ = "ledger"

    job: Mapped[str] = mapped_column(primary_key=True)
    tick: Mapped[str] = mapped_column(primary_key=True)
    # No foreign key, because an application can use its own directory.
    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    state: Mapped[str]
    reason: Mapped[str | None]
    error_type: Mapped[str | None]
    workflow_id: Mapped[str | None]
    run_id: Mapped[str | None]
    planned_by: Mapped[str | None]  # the workflow id of the fan-out that starts it
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())  # the earliest start
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    planned_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    build_id: Mapped[str | None]  # of the version that a release gave it; None: the current one
    deployment: Mapped[str | None]  # of that version; None: an earlier release did not say

    __table_args__ = (
        CheckConstraint(one_of("state", LedgerState), name="state"),
        Index(None, "job", "tick", "state"),
        Index(None, "job", "tick", "due_at", "tenant_id"),
        Index(None, "tenant_id", "job"),
    )


class ReleaseRow(ControlPlane):
    """The release of a worker version to some tenants, before everybody gets it."""

    __tablename__ = "releases"

    deployment: Mapped[str] = mapped_column(primary_key=True)
    build_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    tenants: Mapped[list[str] | None]  # by name; None: a share of all
    share: Mapped[float | None]  # of all tenants, above 0 and at most 1; None: by name
    max_failures: Mapped[float]  # more tenants with failed runs than on the others, as a share
    max_slowdown: Mapped[float]  # how many times as long as on the other versions
    min_runs: Mapped[int]  # before anything is compared
    min_tenants: Mapped[int] = mapped_column(server_default=text("2"))  # with failed runs
    queues: Mapped[list[str] | None]  # that it is for; None: an earlier release did not say
    began_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]  # why it was halted or ended
    changed_by: Mapped[str]  # a user, or the watch that halted it

    __table_args__ = (
        CheckConstraint(one_of("state", ReleaseState), name="state"),
        CheckConstraint("(tenants is null) <> (share is null)", name="cohort"),
        CheckConstraint("share > 0 and share <= 1", name="share"),
        CheckConstraint(
            "state <> 'ramping' or "
            "(coalesce(cardinality(tenants), 1) > 0 and array_position(tenants, null) is null)",
            name="tenants",
        ),
        # NaN is the greatest number.
        CheckConstraint(
            "max_failures > 0 and max_failures <= 1 and max_slowdown > 1 and max_slowdown <= 1000 "
            "and min_runs >= 1 and min_tenants >= 1",
            name="bounds",
        ),
    )


class ServerCheckRow(ControlPlane):
    """The last result of a slow check of a server, for processes that cannot repeat it."""

    __tablename__ = "server_checks"

    name: Mapped[str] = mapped_column(primary_key=True)
    holds: Mapped[bool]
    message: Mapped[str]
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AdmissionRow(ControlPlane):
    """What an operator decided about a tenant's waiting messages, in addition to its plan."""

    __tablename__ = "admission"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    paused_since: Mapped[datetime | None]  # set while no message is released
    paused_reason: Mapped[str | None]
    concurrency_cap: Mapped[int | None]  # overrides the plan's; None: the plan's applies

    __table_args__ = (CheckConstraint("concurrency_cap >= 1", name="concurrency_cap"),)


class InFlightRow(ControlPlane):
    """A running workflow that counts against its tenant's concurrency cap."""

    __tablename__ = "in_flight"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime] = mapped_column(
        server_default=func.now()
    )  # when it was last seen running

    __table_args__ = (Index(None, "checked_at"),)


class DeadLetterRow(ControlPlane):
    """A tenant's job that has failed permanently; one per workflow id.

    The input is in the tenant's outbox, in a message with the status `dead_letter`.
    """

    __tablename__ = "dead_letters"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    job: Mapped[str]
    source: Mapped[str]  # "relay", "workflow", or "message" (one of a batch in a workflow)
    workflow_id: Mapped[str]  # {tenant}/{job}/{key}, even if it never started
    run_id: Mapped[str | None]  # None: it never started
    message_id: Mapped[UUID | None]  # in the outbox; None: the input could not be stored
    error_type: Mapped[str]
    message: Mapped[str]
    fingerprint: Mapped[str]  # the same for failures of the same kind
    attempts: Mapped[int]
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[str] = mapped_column(server_default=text("'open'"))
    replays: Mapped[int] = mapped_column(server_default=text("0"))
    handled_at: Mapped[datetime | None]  # of the last replay, resolution or discard
    handled_by: Mapped[str | None]  # a user, or the process that saw it succeed
    replay_run_id: Mapped[str | None]  # of the run that the last replay started
    told_at: Mapped[datetime | None]  # when the alert was sent; None: not yet

    __table_args__ = (
        CheckConstraint(one_of("status", DeadLetterState), name="status"),
        # The tenant role writes letters, and platform code reads many tenants' letters at once.
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
        # For the metrics, which read each tenant's open letters apart.
        Index("ix_dead_letters_open", "tenant_id", "failed_at", postgresql_where=text(IS_OPEN)),
    )


class PositionRow(ControlPlane):
    """The position of a recurring process, from which its next run continues."""

    __tablename__ = "positions"

    name: Mapped[str] = mapped_column(primary_key=True)
    upto: Mapped[datetime]


class LockRow(ControlPlane):
    """A named lock, held by the transaction that has locked the row."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(primary_key=True)


class AlertRow(ControlPlane):
    """The time of the last alert of a name, to limit how often it is repeated."""

    __tablename__ = "alerts"

    name: Mapped[str] = mapped_column(primary_key=True)  # may include a fingerprint
    sent_at: Mapped[datetime]
    suppressed: Mapped[int] = mapped_column(server_default=text("0"))  # alerts not sent since then


class ApiKeyRow(ControlPlane):
    """An API key of a tenant's own programs; the secret itself is not stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    # No foreign key, because an application can use its own directory.
    tenant_id: Mapped[str] = mapped_column(Text(collation="C"))
    name: Mapped[str]  # shown to users
    digest: Mapped[bytes] = mapped_column(unique=True)  # SHA-256 of the secret
    prefix: Mapped[str]  # the first characters, by which users recognize the key
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]  # written at most once a minute
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        Index(None, "tenant_id", "created_at"),
    )


class MeteredHourRow(ControlPlane):
    """What a tenant's job used of the workers and the database in one hour."""

    __tablename__ = "metered_hours"

    tenant_id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)  # or "platform"
    job: Mapped[str] = mapped_column(primary_key=True)  # empty: outside any job
    hour: Mapped[datetime] = mapped_column(primary_key=True)  # its start, in UTC
    worker_seconds: Mapped[float] = mapped_column(Double(), server_default=text("0"))
    database_seconds: Mapped[float] = mapped_column(Double(), server_default=text("0"))
    attempts: Mapped[int] = mapped_column(BigInteger(), server_default=text("0"))
    workflows: Mapped[int] = mapped_column(BigInteger(), server_default=text("0"))

    __table_args__ = (
        CheckConstraint(
            used("worker_seconds", "database_seconds", "attempts", "workflows"), name="sums"
        ),
        Index(None, "hour"),
    )


class RunningProcessRow(ControlPlane):
    """A process that runs, and what it was started with."""

    __tablename__ = "running_processes"

    kind: Mapped[str] = mapped_column(primary_key=True)  # "worker", "relay", "web" or another
    identity: Mapped[str] = mapped_column(primary_key=True)
    serves: Mapped[str]  # its queues, for example
    version: Mapped[str]  # of its code
    configuration: Mapped[str]  # a digest
    revisions: Mapped[dict[str, Any]]  # the newest migration that it knows, by environment
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
