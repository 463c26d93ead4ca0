"""Cleaning up: rows that say themselves when they expire."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel

from activities.deletion import Aging, Batches, delete_aged
from saas.database.contacts import Import
from saas.database.exports import Export
from saas.database.mail import OutgoingMail
from saas.database.models import Document
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.outbox import ProcessedEvent

# For so long an event that is delivered again has no second effect: longer than any sender tries.
REMEMBERED: Final = timedelta(days=30)

KEPT: Final = timedelta(days=90)  # files that were uploaded, and that a mail was sent

# A further kind of row that expires is one more entry.
EXPIRING: Final = [
    Aging(Document, Document.expires_at, "documents.deleted"),
    Aging(Export, Export.expires_at, "exports.deleted", [Export.path]),
    Aging(Import, Import.ended_at, "imports.deleted", [Import.path, Import.error_file], KEPT),
    Aging(OutgoingMail, OutgoingMail.sent_at, "mail.forgotten", keep=KEPT),
    Aging(ProcessedEvent, ProcessedEvent.processed_at, "events.forgotten", keep=REMEMBERED),
]


class DeleteExpired(BaseModel):
    """Asks for what has expired to be deleted."""

    at: AwareDatetime


class CleanupReport(BaseModel):
    """How many expired rows this run has deleted, by table."""

    deleted: dict[str, int]


class Cleanup:
    """Deletes what says itself when it expires."""

    def __init__(self, batches: Batches | None = None) -> None:
        """`batches` are how many rows one transaction deletes."""
        self._batches = batches or Batches()

    @tenant_activity
    async def delete_expired(self, request: DeleteExpired) -> CleanupReport:
        """Deletes, in batches, what had expired by `at`."""
        return CleanupReport(
            deleted={
                rows.table: await delete_aged(rows, request.at, self._batches) for rows in EXPIRING
            }
        )
