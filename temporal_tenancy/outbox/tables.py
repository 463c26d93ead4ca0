"""The outbox's tables: requested jobs, processed events, and the fences of locks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    MetaData,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    cast,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from temporal_tenancy.control_plane.tables import NAMING_CONVENTION, one_of, readable, short
from temporal_tenancy.core.payloads import READABLE, NotReadable, read
from temporal_tenancy.postgres.installation import SCHEMA
from temporal_tenancy.postgres.tenant_owned import TenantOwned

# Only the relay's queries use these; tenants' queries use none of them.
RELAY_INDEXES: Final = ("ix_outbox_messages_completed_at", "ix_outbox_messages_lease_until")


class MessageStatus(StrEnum):
    """The state of an outbox message."""

    PENDING = "pending"  # waits for its time, its turn or its tenant
    PROCESSING = "processing"  # claimed by a relay, or by a workflow that handles several
    COMPLETED = "completed"  # its workflow has started, or its work is done
    FAILED = "failed"  # its last attempt failed; it waits for the next
    DEAD_LETTER = "dead_letter"  # it failed permanently and waits for a person


WAITING: Final = (MessageStatus.PENDING, MessageStatus.FAILED)
"""The states in which a message waits for its first or its next attempt."""

# Conditions in SQL; each is that of a partial index.
IS_WAITING: Final = one_of("status", WAITING)
# Temporal's limit of an id; a longer one, which only a person can have written, fits no index.
IS_AN_ID: Final = "octet_length(workflow_id) <= 1000"
IS_PROCESSING: Final = f"status = '{MessageStatus.PROCESSING}'"
# Of `m`, spelled as no partial index has it: what names its rows by their key then reads no others.
# A table that was analysed while nothing was in work has, for all that the planner knows, next to
# nothing in these indexes; it would read all that is in work for each mark.
IS_PROCESSING_BY_KEY: Final = f"(m.status || '') = '{MessageStatus.PROCESSING}'"
IS_COMPLETED: Final = f"status = '{MessageStatus.COMPLETED}'"
IS_DEAD: Final = f"status = '{MessageStatus.DEAD_LETTER}'"
IS_LIVE: Final = f"status <> '{MessageStatus.DEAD_LETTER}'"


class Payload(TypeDecorator[Any]):
    """JSONB that is decoded from its text, row by row; unreadable JSON is returned as the text."""

    impl = JSONB
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Selects the column's text, cut one character past what is readable."""
        return func.left(cast(column, Text), READABLE + 1, type_=self)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Coerces as JSONB does, so that `payload["name"]` selects a field."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # JSON
        """Returns the decoded value, or the text if it cannot be decoded."""
        try:
            return None if value is None else read(value)
        except NotReadable:
            return value


class OutboxData(DeclarativeBase):
    """The declarative base of the outbox's tables."""

    metadata = MetaData(schema=SCHEMA, naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # declared by SQLAlchemy; its mapper reads it once
        str: Text(),
        datetime: DateTime(timezone=True),
    }


class OutboxMessage(TenantOwned, OutboxData):
    """A requested job: one row of `outbox_messages`, written in the transaction of its data."""

    __tablename__ = "outbox_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    job: Mapped[str]  # its name, the workflow type
    key: Mapped[str]  # the last part of the workflow id; defaults to `id`
    # The job's input as JSON, without the tenant; it holds references, not data.
    payload: Mapped[Any] = mapped_column(Payload())
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("3"))  # 1 (first) to 5
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))  # a `MessageStatus`
    scheduled_at: Mapped[datetime] = mapped_column(server_default=func.now())  # the earliest start
    dequeued_at: Mapped[datetime | None]  # when a relay last claimed it
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_attempt_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]  # while processing; then a relay checks on the holder
    completed_at: Mapped[datetime | None]
    workflow_id: Mapped[str | None]  # of the workflow that handles it together with others
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    correlation_id: Mapped[str | None]
    traceparent: Mapped[str | None] = mapped_column(String(55))  # of the trace it was written in
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("status", MessageStatus), name="status"),
        CheckConstraint("priority between 1 and 5", name="priority"),
        # Tenants' own code writes messages, and one relay query reads those of many tenants.
        CheckConstraint(
            readable(
                "scheduled_at",
                "dequeued_at",
                "last_attempt_at",
                "lease_until",
                "completed_at",
                "created_at",
            ),
            name="times",
        ),
        CheckConstraint(
            short("job", "key", "workflow_id", "error_type", "error_message", "correlation_id"),
            name="sizes",
        ),
        # The stored (compressed) size costs nothing to check; enqueue() accepts 64 KiB of JSON.
        CheckConstraint("pg_column_size(payload) <= 1048576", name="payload"),
        CheckConstraint("starts_with(workflow_id, tenant_id || '/')", name="owner"),
        # A UUIDv7 with a time that fits a date: messages are ordered by their ids.
        CheckConstraint(
            "substr(id::text, 15, 1) = '7' and id < 'e677d21f-dc00-7000-8000-000000000000'",
            name="id",
        ),
        # For the claim: one index descent finds a tenant's next message of a priority.
        Index(
            "ix_outbox_messages_waiting",
            "tenant_id",
            "priority",
            "scheduled_at",
            "id",
            postgresql_where=text(IS_WAITING),
        ),
        # A dead letter no longer reserves its key.
        Index(
            "uq_outbox_messages_tenant_id_job_key",
            "tenant_id",
            "job",
            "key",
            unique=True,
            postgresql_where=text(IS_LIVE),
        ),
        Index(
            "ix_outbox_messages_lease_until",
            "lease_until",
            postgresql_where=text(IS_PROCESSING),
        ),
        # For the messages that one workflow handles; few messages are.
        Index(
            "ix_outbox_messages_workflow_id",
            "tenant_id",
            "workflow_id",
            postgresql_where=text(f"{IS_PROCESSING} and {IS_AN_ID}"),
        ),
        Index(
            "ix_outbox_messages_completed_at",
            "completed_at",
            postgresql_where=text(IS_COMPLETED),
        ),
    )


class ProcessedEvent(TenantOwned, OutboxData):
    """An event that a consumer has processed, recorded in the transaction of its effect."""

    __tablename__ = "processed_events"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    processed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(readable("processed_at"), name="times"),
        Index(None, "tenant_id", "processed_at"),
    )


class LockFence(TenantOwned, OutboxData):
    """The newest token of a lock: whoever has an older one has lost it."""

    __tablename__ = "lock_fences"

    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)
    taken_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(readable("taken_at"), name="times"),
        CheckConstraint("char_length(name) <= 1000", name="sizes"),
        Index(None, "tenant_id", "taken_at"),
    )
