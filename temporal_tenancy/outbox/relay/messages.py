"""A message as the relay, or the workflow that works off several, has it in hand."""

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
    """A message that has been claimed, and must be marked before its lease ends."""

    tenant_id: str
    id: UUID
    job: str
    key: str
    payload: str  # JSON, as the database writes it; it may be none that can be read
    priority: int
    attempts: int  # this one too
    correlation_id: str | None
    workflow_id: str | None = None  # the one that works it off with others

    @property
    def own_id(self) -> WorkflowId:
        """What the workflow is called that does this message's job alone."""
        return WorkflowId(self.tenant_id, self.job, self.key)

    @property
    def letter_id(self) -> str:
        """What its dead letter goes by: its workflow's id, or what comes next to one."""
        try:
            return str(self.own_id)
        except TenancyError:  # it was written past enqueue(), and could never be started
            return str(WorkflowId(self.tenant_id, "unknown.job", str(self.id)))


@dataclass(frozen=True)
class Unit:
    """What one workflow is started for: a message, or several of a tenant's and a job's."""

    workflow_id: str
    messages: Sequence[Message]
    holds_slot: bool = False  # of its tenant's concurrency cap
    coalesced: bool = False
    input: Any = None  # of the job's own model, where it has been read already

    @property
    def tenant_id(self) -> str:
        """Whose messages these are."""
        return self.messages[0].tenant_id


@dataclass(frozen=True)
class Failed:
    """A message whose attempt has failed."""

    message: Message
    error_type: str
    error_message: str
    wait: timedelta | None  # until the next attempt; None: there is none

    @property
    def is_dead(self) -> bool:
        """Whether it has failed for good."""
        return self.wait is None
