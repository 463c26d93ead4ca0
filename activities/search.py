"""Search: keeps the search index in step with contacts and documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import Field
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database.contacts import Contact
from saas.database.search import SearchDocument
from saas.database.tables import Document
from temporal_tenancy import TenantInput, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_id, enqueue, once

JOB: Final = "search.index"
BODY_MAX_CHARACTERS: Final = 100_000  # PostgreSQL's limit is a megabyte of lexemes

Kind = Literal["contact", "document"]


class IndexDocument(TenantInput):
    """Input of `search.index`: the item whose search entry to update."""

    kind: Kind
    # A contact's id, or a document's kind and key with a slash between them.
    ref: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class Text(NamedTuple):
    """The text of an item."""

    title: str
    body: str


async def ask_for_index(kind: Kind, ref: str, *, version: str) -> None:
    """Requests that an item be indexed, in the transaction that changes it.

    `version` distinguishes this change from others of the same item, for example a time: each
    change gets its own message.
    """
    await enqueue(JOB, {"kind": kind, "ref": ref}, key=f"{kind}/{ref}/{version}")


@tenant_activity
async def index_document(request: IndexDocument) -> None:
    """Updates the search entry of an item, or deletes it if the item is gone.

    Each message is processed once. Two messages about one item take turns, and each reads the
    item's current state, so that the entry ends up right in whatever order they arrive.
    """
    async with tenant_session() as session:
        if not await once(session, JOB, current_event_id()):
            return
        await _take_turn(session, request)
        found = await _SOURCES[request.kind](session, request.ref)
        if found is None:
            await session.execute(
                delete(SearchDocument).where(
                    SearchDocument.kind == request.kind, SearchDocument.ref == request.ref
                )
            )
            return
        entry = {"title": found.title, "body": found.body[:BODY_MAX_CHARACTERS]}
        await session.execute(
            insert(SearchDocument)
            .values(kind=request.kind, ref=request.ref, **entry)
            .on_conflict_do_update(
                index_elements=["tenant_id", "kind", "ref"],
                set_={**entry, "indexed_at": func.now()},
            )
        )


async def _take_turn(session: AsyncSession, request: IndexDocument) -> None:
    """Locks the item's entry until the transaction ends; creates an empty one if needed."""
    entry = insert(SearchDocument).values(kind=request.kind, ref=request.ref, title="", body="")
    await session.execute(
        entry.on_conflict_do_update(
            index_elements=["tenant_id", "kind", "ref"], set_={"kind": entry.excluded.kind}
        )
    )


async def _contact(session: AsyncSession, ref: str) -> Text | None:
    try:
        contact_id = UUID(ref)
    except ValueError:
        return None
    contact = await session.scalar(select(Contact).where(Contact.id == contact_id))
    if contact is None:
        return None
    known = [contact.email, contact.phone, contact.company, contact.country]
    return Text(
        title=contact.name or contact.email,
        body=" ".join([*filter(None, known), *_words(contact.attributes)]),
    )


async def _document(session: AsyncSession, ref: str) -> Text | None:
    kind, _, key = ref.partition("/")
    content = await session.scalar(
        select(Document.content).where(Document.kind == kind, Document.key == key)
    )
    return None if content is None else Text(title=f"{kind} {key}", body=" ".join(_words(content)))


_SOURCES: Final[dict[Kind, Callable[[AsyncSession, str], Awaitable[Text | None]]]] = {
    "contact": _contact,
    "document": _document,
}


def _words(value: Any) -> Iterator[str]:  # JSON
    """Yields the texts and numbers in a document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
