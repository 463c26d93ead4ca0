"""A tenant's own records: invoices, daily usage, documents and contacts."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select

from processes.web.callers import Authenticated
from processes.web.errors import documented
from processes.web.paging import LIMIT, After, ItemPage, Limit, identified, page_of
from processes.web.refusals import ContactUnknown, DocumentUnknown, InvalidRequest
from saas.database.contacts import Contact
from saas.database.tables import DailyUsage, Document, Invoice
from saas.requests.lists import CONTACTS, DAILY_USAGE, DOCUMENTS, INVOICES
from temporal_tenancy import tenant_session

router: Final = APIRouter(tags=["records"])


class InvoiceState(BaseModel):
    """What the tenant owes for a month in its time zone."""

    period: str  # YYYY-MM
    currency: str  # ISO 4217
    total_cents: int
    usage_events: int
    period_start: datetime
    period_end: datetime  # exclusive
    issued_at: datetime


class DayOfUsage(BaseModel):
    """The usage of a day in the tenant's time zone."""

    day: date
    events: int
    cancelled: int
    distance: int  # miles, of operated flights
    air_time: int  # minutes
    computed_at: datetime


class RecordLinks(BaseModel):
    """A link to a record."""

    self: str


class DocumentEntry(BaseModel):
    """A document, without its content."""

    kind: str
    key: str
    created_at: datetime
    expires_at: datetime | None  # null: never
    links: RecordLinks


class DocumentContent(DocumentEntry):
    """A document with its content."""

    content: dict[str, Any]  # JSON


class ContactState(BaseModel):
    """A person whom the tenant knows."""

    id: UUID
    email: str
    name: str | None
    phone: str | None
    company: str | None
    country: str | None
    attributes: dict[str, Any]  # the other columns of its files
    created_at: datetime
    updated_at: datetime
    links: RecordLinks


@router.get("/invoices", responses=documented(401))
async def list_invoices(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[InvoiceState]:
    """List the invoices, the latest month first."""
    async with tenant_session() as session:
        return page_of(await INVOICES.page(session, after=after, limit=limit), _invoice)


@router.get("/usage/daily", responses=documented(401))
async def list_daily_usage(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[DayOfUsage]:
    """List the days with usage, the latest first, as far as "analytics.aggregate" has counted."""
    async with tenant_session() as session:
        return page_of(await DAILY_USAGE.page(session, after=after, limit=limit), _day)


@router.get("/documents", responses=documented(401))
async def list_documents(
    caller: Authenticated,
    *,
    kind: Annotated[str | None, Query(max_length=200, examples=["report.daily"])] = None,
    after: After = None,
    limit: Limit = LIMIT,
) -> ItemPage[DocumentEntry]:
    """List the documents by kind, the newest of each first."""
    if "\x00" in (kind or ""):
        raise InvalidRequest("the parameter kind has a NUL. No document has such a kind.")
    filters = {} if kind is None else {Document.kind: kind}
    async with tenant_session() as session:
        page = await DOCUMENTS.page(session, after=after, limit=limit, filters=filters)
        return page_of(page, _document)


@router.get("/documents/{kind}/{key:path}", responses=documented(401, 404))
async def show_document(kind: str, key: str, caller: Authenticated) -> DocumentContent:
    """Show a document with its content."""
    if "\x00" in kind + key:
        raise DocumentUnknown
    wanted = (Document.kind == kind, Document.key == key)
    async with tenant_session() as session:
        found = await session.scalar(select(Document).where(*wanted, *DOCUMENTS.where))
    if found is None:
        raise DocumentUnknown
    return DocumentContent(**_document(found).model_dump(), content=found.content)


@router.get("/contacts", responses=documented(401))
async def list_contacts(
    caller: Authenticated, *, after: After = None, limit: Limit = LIMIT
) -> ItemPage[ContactState]:
    """List the contacts, the newest first."""
    async with tenant_session() as session:
        return page_of(await CONTACTS.page(session, after=after, limit=limit), _contact)


@router.get("/contacts/{contact_id}", responses=documented(401, 404))
async def show_contact(contact_id: str, caller: Authenticated) -> ContactState:
    """Show a contact."""
    wanted = identified(contact_id, ContactUnknown)
    async with tenant_session() as session:
        found = await session.scalar(select(Contact).where(Contact.id == wanted))
    if found is None:
        raise ContactUnknown
    return _contact(found)


def link_to_document(kind: str, key: str) -> str:
    """Returns the path of a document."""
    return f"/documents/{quote(kind, safe='')}/{quote(key, safe='')}"


def link_to_contact(contact_id: object) -> str:
    """Returns the path of a contact."""
    return f"/contacts/{contact_id}"


def _invoice(invoice: Invoice) -> InvoiceState:
    return InvoiceState.model_validate(invoice, from_attributes=True)


def _day(day: DailyUsage) -> DayOfUsage:
    return DayOfUsage.model_validate(day, from_attributes=True)


def _document(document: Document) -> DocumentEntry:
    return DocumentEntry(
        kind=document.kind,
        key=document.key,
        created_at=document.created_at,
        expires_at=document.expires_at,
        links=RecordLinks(self=link_to_document(document.kind, document.key)),
    )


def _contact(contact: Contact) -> ContactState:
    return ContactState(
        id=contact.id,
        email=contact.email,
        name=contact.name,
        phone=contact.phone,
        company=contact.company,
        country=contact.country,
        attributes=contact.attributes,
        created_at=contact.created_at,
        updated_at=contact.updated_at,
        links=RecordLinks(self=link_to_contact(contact.id)),
    )
