"""What a tenant's database holds of jobs that were asked for, and of events dealt with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    MetaData,
    SmallInteger,
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

from temporal_tenancy.control_plane.models import NAMING_CONVENTION, one_of, readable, short
from temporal_tenancy.core.payloads import READABLE, NotReadable, read
from temporal_tenancy.postgres.tenant_owned import TenantOwned

# The relay's own: they serve no tenant's query.
RELAY_INDEXES: Final = ("ix_outbox_messages_completed_at", "ix_outbox_messages_lease_until")


class MessageStatus(StrEnum):
    """How far an outbox message has come."""

    PENDING = "pending"  # waits for its time, its turn, or its tenant
    PROCESSING = "processing"  # a relay has it, or a workflow that works off several
    COMPLETED = "completed"  # its workflow has been started, or its work is done
    FAILED = "failed"  # its last attempt has; it waits for the next
    DEAD_LETTER = "dead_letter"  # has failed for good; it waits for a person


WAITING: Final = (MessageStatus.PENDING, MessageStatus.FAILED)
"""The states in which a message waits, for its first attempt or for another."""

_WAITING: Final = "status in ('pending', 'failed')"


class Payload(TypeDecorator[Any]):
    """JSON that is read from its text, row by row: one that cannot be read is that text itself."""

    impl = JSONB
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """What is sent in the place of the column."""
        return func.left(cast(column, Text), READABLE + 1, type_=self)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """As JSONB has it, so that `payload["name"]` is a field of it."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # JSON
        """The value, or the text."""
        try:
            return None if value is None else read(value)
        except NotReadable:
            return value


class OutboxData(DeclarativeBase):
    """The tables' common base."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # SQLAlchemy's own, read once by the mapper
        str: Text(),
        datetime: DateTime(timezone=True),
    }


class OutboxMessage(TenantOwned, OutboxData):
    """A job that was asked for."""

    __tablename__ = "outbox_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    job: Mapped[str]  # the message's type
    key: Mapped[str]  # of the workflow id, and of the effect; its id where none is given
    # The job's input without the tenant: references, not data.
    payload: Mapped[Any] = mapped_column(Payload())  # JSON
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("3"))
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    scheduled_at: Mapped[datetime] = mapped_column(server_default=func.now())  # not before
    dequeued_at: Mapped[datetime | None]  # when a relay took it last
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_attempt_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]  # while processing: who has it is asked after that
    completed_at: Mapped[datetime | None]
    workflow_id: Mapped[str | None]  # the one that works it off, where it works off several
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    correlation_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(one_of("status", MessageStatus), name="status"),
        CheckConstraint("priority between 1 and 5", name="priority"),
        # Tenants' own code writes messages, and the relay reads those of many tenants at a time.
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
        # As it is stored, which costs nothing to know; enqueue() lets no more than 64 KiB pass.
        CheckConstraint("pg_column_size(payload) <= 1048576", name="payload"),
        CheckConstraint("starts_with(workflow_id, tenant_id || '/')", name="owner"),
        # Of version 7, and of a time that is a date: messages are in the order of their ids.
        CheckConstraint(
            "substr(id::text, 15, 1) = '7' and id < 'e677d21f-dc00-7000-8000-000000000000'",
            name="id",
        ),
        # Serves the dequeue: a tenant's next message of each priority is one descent.
        Index(
            "ix_outbox_messages_waiting",
            "tenant_id",
            "priority",
            "scheduled_at",
            "id",
            postgresql_where=text(_WAITING),
        ),
        # A key is one message as long as that message has a future of its own.
        Index(
            "uq_outbox_messages_tenant_id_job_key",
            "tenant_id",
            "job",
            "key",
            unique=True,
            postgresql_where=text("status <> 'dead_letter'"),
        ),
        Index(
            "ix_outbox_messages_lease_until",
            "lease_until",
            postgresql_where=text("status = 'processing'"),
        ),
        Index(
            "ix_outbox_messages_completed_at",
            "completed_at",
            postgresql_where=text("status = 'completed'"),
        ),
    )


class ProcessedEvent(TenantOwned, OutboxData):
    """An event that a consumer has dealt with, written in the transaction of its effect."""

    __tablename__ = "processed_events"

    consumer: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    processed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(readable("processed_at"), name="times"),
        Index(None, "tenant_id", "processed_at"),
    )
