"""The lists of a tenant's own rows, the newest first."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, or_

from saas.database.contacts import Contact, Import
from saas.database.paging import Listing
from saas.database.tables import DailyUsage, Document, Invoice

IMPORTS: Final = Listing("imports", Import, [Import.id])
CONTACTS: Final = Listing("contacts", Contact, [Contact.id])
INVOICES: Final = Listing("invoices", Invoice, [Invoice.period])
DAILY_USAGE: Final = Listing("daily usage", DailyUsage, [DailyUsage.day])
DOCUMENTS: Final = Listing(
    "documents",
    Document,
    [Document.kind, Document.key],  # a kind's keys ascend with time
    where=[or_(Document.expires_at.is_(None), Document.expires_at > func.now())],
)
