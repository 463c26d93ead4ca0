"""Search: what is found of a thing is what the thing says now."""

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
from temporal_tenancy.core.activities import tenant_activity
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.outbox import current_event_id, enqueue, once
from temporal_tenancy.postgres.database import tenant_session

JOB: Final = "search.index"
BODY_MAX_CHARACTERS: Final = 100_000  # the server takes a megabyte of words

Kind = Literal["contact", "document"]


class IndexDocument(TenantInput):
    """Asks for what can be found of a thing to be brought up to date."""

    kind: Kind
    # A contact's id; a document's kind and key with a slash between them.
    ref: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class Text(NamedTuple):
    """What a thing says."""

    title: str
    body: str


async def ask_for_index(kind: Kind, ref: str, *, version: str) -> None:
    """Asks for a thing to be indexed, in the transaction that changes it.

    `version` tells this change of the thing from others, such as a time: each is a message.
    """
    await enqueue(JOB, {"kind": kind, "ref": ref}, key=f"{kind}/{ref}/{version}")


@tenant_activity
async def index_document(request: IndexDocument) -> None:
    """Brings the entry of one thing up to date, or deletes it where the thing is gone.

    Each message is dealt with once. Two about one thing take turns, and the later reads what the
    thing says then: so the entry ends as the thing does, in whatever order they come.
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
    """Locks the thing's entry, an empty one where there is none, until the transaction ends."""
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
    said = [contact.email, contact.phone, contact.company, contact.country]
    return Text(
        title=contact.name or contact.email,
        body=" ".join([*filter(None, said), *_words(contact.attributes)]),
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
    """The texts and numbers in a document, one by one."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
