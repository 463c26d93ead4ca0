"""Cleaning up: deletes expired rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel

from activities.deletion import Aging, Batches, delete_aged
from saas.database.contacts import Import
from saas.database.exports import Export
from saas.database.idempotency import IdempotencyKey
from saas.database.mail import OutgoingMail
from saas.database.tables import Document
from temporal_tenancy import tenant_activity
from temporal_tenancy.outbox import ProcessedEvent

# How long a repeated delivery of an event has no second effect; no sender retries for longer.
REMEMBERED: Final = timedelta(days=30)

KEPT: Final = timedelta(days=90)  # for uploaded files and the records of sent mail

# Add an entry for each further kind of row that expires.
EXPIRING: Final = [
    Aging(
        Document,
        Document.expires_at,
        "documents.deleted",
        indexed_by=[Document.kind, Document.key],
    ),
    Aging(Export, Export.expires_at, "exports.deleted", [Export.path]),
    Aging(IdempotencyKey, IdempotencyKey.expires_at, "idempotency_keys.forgotten"),
    Aging(Import, Import.ended_at, "imports.deleted", [Import.path, Import.error_file], KEPT),
    Aging(OutgoingMail, OutgoingMail.sent_at, "mail.forgotten", keep=KEPT),
    Aging(ProcessedEvent, ProcessedEvent.processed_at, "events.forgotten", keep=REMEMBERED),
]


class DeleteExpired(BaseModel):
    """Input of `delete_expired`: rows that expired by `at` are deleted."""

    at: AwareDatetime


class CleanupReport(BaseModel):
    """The number of rows that this run deleted, by table."""

    deleted: dict[str, int]


class Cleanup:
    """Deletes expired rows."""

    def __init__(self, batches: Batches | None = None) -> None:
        """`batches` is how many rows one transaction deletes."""
        self._batches = batches or Batches()

    @tenant_activity
    async def delete_expired(self, request: DeleteExpired) -> CleanupReport:
        """Deletes the rows that had expired by `at`, in batches."""
        return CleanupReport(
            deleted={
                rows.table: await delete_aged(rows, request.at, self._batches) for rows in EXPIRING
            }
        )
