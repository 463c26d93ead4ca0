"""Messages as the relay, or the workflow that handles several, holds them in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.identifiers import WorkflowId


@dataclass(frozen=True)
class Message:
    """A claimed message, which must be marked before its lease expires."""

    tenant_id: str
    id: UUID
    job: str  # its name
    key: str  # the last part of the workflow id
    payload: str  # JSON as the database writes it, without the tenant; may be unreadable
    priority: int  # 1 (first) to 5
    attempts: int  # including this one
    correlation_id: str | None
    workflow_id: str | None = None  # of the workflow that handles it together with others
    traceparent: str | None = None  # as it was written; may be unreadable
    due_for: float | None = None  # seconds, when it was claimed; None: its time is not finite

    @property
    def own_id(self) -> WorkflowId:
        """The id of the workflow that does this message's job alone.

        Raises `TenancyError` if the tenant, job and key cannot form a workflow id.
        """
        return WorkflowId(self.tenant_id, self.job, self.key)

    @property
    def reused_key_id(self) -> WorkflowId:
        """The id under which the job can run where an earlier run has used the key.

        Raises `TenancyError` if the tenant and job cannot form a workflow id.
        """
        return WorkflowId(self.tenant_id, self.job, str(self.id))

    @property
    def letter_id(self) -> str:
        """The workflow id of its dead letter: `own_id`, or `{tenant}/unknown.job/{message id}`.

        Raises `TenantInvalid` if the tenant id is invalid.
        """
        try:
            return str(self.own_id)
        except TenancyError:  # written without enqueue(), and could never be started
            return str(WorkflowId(self.tenant_id, "unknown.job", str(self.id)))


@dataclass(frozen=True)
class Unit:
    """The message, or several messages of one tenant and job, that one workflow is started for."""

    workflow_id: str
    messages: Sequence[Message]  # at least one
    holds_slot: bool = False  # whether it counts against its tenant's concurrency cap
    coalesced: bool = False  # whether its workflow handles messages together
    input: Any = None  # of the job's own model; None: not decoded yet

    @property
    def tenant_id(self) -> str:
        """The tenant of all its messages."""
        return self.messages[0].tenant_id


@dataclass(frozen=True)
class Failed:
    """The mark of a failed attempt."""

    message: Message
    error_type: str
    error_message: str
    wait: timedelta | None  # until the next attempt; None: no attempt is left
    reuses_key: bool = False  # whether its workflow id belongs to the run of another request
    is_told: bool = True  # whether somebody wrote `error_message` for people, and logs may have it

    @property
    def is_dead(self) -> bool:
        """Whether the message becomes a dead letter."""
        return self.wait is None

    @property
    def letter_id(self) -> str:
        """The workflow id of its dead letter.

        A letter under the id of another request's run would be resolved when that run succeeds.
        Raises `TenantInvalid` if the tenant id is invalid.
        """
        return str(self.message.reused_key_id) if self.reuses_key else self.message.letter_id
