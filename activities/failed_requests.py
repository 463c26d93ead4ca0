"""Marks an export, report or integration as failed, for those who wait for it."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import update

from saas.database.exports import Export, RequestStatus
from saas.database.integrations import Integration, SyncStatus
from saas.database.reports import RequestedReport
from saas.services.sync_failures import sync_failure
from temporal_tenancy import tenant_activity, tenant_session

RequestKind = Literal["export", "report", "integration"]


class NoteFailure(BaseModel):
    """Input of `note_failure`: the request whose job failed."""

    kind: RequestKind
    id: str  # a malformed id is ignored
    # Of the failure; earlier releases do not send them.
    error_type: str | None = None
    error_status: int | None = None  # of another server's response


@tenant_activity
async def note_failure(request: NoteFailure) -> None:
    """Marks a request as failed unless it is completed; a later run may still complete it."""
    try:
        wanted = UUID(request.id)
    except ValueError:
        return
    async with tenant_session() as session:
        if request.kind == "integration":
            await session.execute(
                update(Integration)
                .where(Integration.id == wanted)
                .values(
                    status=SyncStatus.FAILED,
                    error=sync_failure(request.error_type, request.error_status),
                )
            )
            return
        model = Export if request.kind == "export" else RequestedReport
        await session.execute(
            update(model)
            .where(model.id == wanted, model.status == RequestStatus.REQUESTED)
            .values(status=RequestStatus.FAILED)
        )
