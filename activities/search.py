"""Search: keeps the search index in step with contacts and documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import delete, func, select, text, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from activities.limits import LARGE
from saas.database.contacts import Contact
from saas.database.search import SearchDocument
from saas.database.tables import Document
from temporal_tenancy import TenantInput, current_tenant, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_id, enqueue_many, once

JOB: Final = "search.index"
BODY_MAX_CHARACTERS: Final = 100_000  # PostgreSQL's limit is a megabyte of lexemes
PAGE_ITEMS: Final = 500  # that one transaction of a reindexing indexes
CHANGED: Final = "changed/"  # and a time: the contacts that were last changed then

Kind = Literal["contact", "document"]


class IndexDocument(TenantInput):
    """Input of `search.index`: the item whose search entry to update."""

    kind: Kind
    # A contact's id, `changed/` and a time, or a document's kind and key with a slash between them.
    ref: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class IndexPage(BaseModel):
    """Input of `index_page`: the items of `kind` that follow `after`, or the first ones."""

    kind: Kind
    after: str | None  # a ref


class IndexedPage(BaseModel):
    """The number of items that were indexed, and the last one if there may be more."""

    items: int
    after: str | None


class Text(NamedTuple):
    """The text of an item."""

    title: str
    body: str


async def ask_for_index(kind: Kind, ref: str, *, version: str) -> None:
    """Requests that an item be indexed, in the transaction that changes it.

    `version` distinguishes this change from others of the same item, for example a time: each
    change gets its own message.
    """
    await ask_for_indexes(kind, [ref], version=version)


async def ask_for_indexes(kind: Kind, refs: Sequence[str], *, version: str) -> None:
    """Requests that several items of a kind be indexed, as `ask_for_index` does."""
    await enqueue_many(
        JOB,
        [{"kind": kind, "ref": ref} for ref in refs],
        keys=[f"{kind}/{ref}/{version}" for ref in refs],
    )


async def ask_for_changed_contacts(at: datetime, *, version: str) -> None:
    """Requests that the contacts be indexed whose `updated_at` is `at` (aware), by one message.

    A message for each of them would be a million for a large import.
    """
    await ask_for_index("contact", f"{CHANGED}{at.astimezone(UTC).isoformat()}", version=version)


async def is_known(session: AsyncSession, kind: Kind, ref: str) -> bool:
    """Returns whether the tenant has the item, or still has a search entry of it."""
    entry = select(SearchDocument.ref).where(SearchDocument.kind == kind, SearchDocument.ref == ref)
    return await _SOURCES[kind](session, ref) is not None or await session.scalar(entry) is not None


@tenant_activity
async def index_document(request: IndexDocument) -> None:
    """Updates the search entry of an item, or deletes it if the item is gone.

    Each message is processed once. Two messages about one item take turns, and each reads the
    item's current state, so that the entry ends up right in whatever order they arrive.
    """
    changed_at = _changed_at(request)
    async with tenant_session(limits=None if changed_at is None else LARGE) as session:
        if not await once(session, JOB, current_event_id()):
            return
        if changed_at is not None:
            await _index_changed(session, changed_at)
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


def _changed_at(request: IndexDocument) -> datetime | None:
    """Returns the time that the message names; None if it names one item."""
    if request.kind != "contact" or not request.ref.startswith(CHANGED):
        return None
    try:
        at = datetime.fromisoformat(request.ref.removeprefix(CHANGED))
    except ValueError:
        return None
    return None if at.utcoffset() is None else at


_INDEX: Final = text("""
    insert into search_documents (tenant_id, kind, ref, title, body)
    select :tenant, :kind, ref, title, body
      from unnest(cast(:refs as text[]), cast(:titles as text[]), cast(:bodies as text[]))
               as given (ref, title, body)
     order by ref
    on conflict (tenant_id, kind, ref) do update set
        title = excluded.title, body = excluded.body, indexed_at = now()
""")


async def _index_changed(session: AsyncSession, at: datetime) -> None:
    """Updates the search entries of the contacts that were last changed at `at`.

    They are locked: an import that changes one of them waits, and its own message comes later. The
    order is that of an import's statement, so that the two do not deadlock.
    """
    contacts = select(Contact).where(Contact.updated_at == at).order_by(Contact.email)
    found = (await session.scalars(contacts.with_for_update(read=True))).all()
    await _write(session, "contact", {str(each.id): _text_of(each) for each in found})


async def _write(session: AsyncSession, kind: Kind, texts: Mapping[str, Text]) -> None:
    """Writes the search entries of several items of a kind, by their ref."""
    values = {
        "tenant": current_tenant(),
        "kind": kind,
        "refs": list(texts),
        "titles": [each.title for each in texts.values()],
        "bodies": [each.body[:BODY_MAX_CHARACTERS] for each in texts.values()],
    }
    await session.execute(_INDEX, values)


@tenant_activity
async def index_page(request: IndexPage) -> IndexedPage:
    """Updates the search entries of the next items of a kind, in one transaction.

    The items are locked: a change of one of them waits, and its own message comes later.
    """
    async with tenant_session(limits=LARGE) as session:
        refs = await _REFS[request.kind](session, request.after)
        texts = await _LOCKED[request.kind](session, refs)
        await _write(session, request.kind, texts)
    more = len(refs) == PAGE_ITEMS
    return IndexedPage(items=len(texts), after=refs[-1] if more else None)


async def _contacts_after(session: AsyncSession, after: str | None) -> Sequence[str]:
    ids = await session.scalars(
        select(Contact.id)
        .where(true() if after is None else Contact.id > UUID(after))
        .order_by(Contact.id)
        .limit(PAGE_ITEMS)
    )
    return [str(each) for each in ids]


async def _locked_contacts(session: AsyncSession, refs: Sequence[str]) -> dict[str, Text]:
    # In the order of an import's statement, so that the two do not deadlock.
    contacts = select(Contact).where(Contact.id.in_(map(UUID, refs))).order_by(Contact.email)
    locked = await session.scalars(contacts.with_for_update(read=True))
    return {str(each.id): _text_of(each) for each in locked}


async def _documents_after(session: AsyncSession, after: str | None) -> Sequence[str]:
    kind, _, key = (after or "").partition("/")
    rows = await session.execute(
        select(Document.kind, Document.key)
        .where(true() if after is None else tuple_(kind, key) < _PLACE)
        .order_by(Document.kind, Document.key)
        .limit(PAGE_ITEMS)
    )
    return [f"{row.kind}/{row.key}" for row in rows]


async def _locked_documents(session: AsyncSession, refs: Sequence[str]) -> dict[str, Text]:
    places = [ref.partition("/")[::2] for ref in refs]
    documents = select(Document).where(_PLACE.in_(places)).order_by(Document.kind, Document.key)
    locked = await session.scalars(documents.with_for_update(read=True))
    return {
        f"{each.kind}/{each.key}": _text_in(each.kind, each.key, each.content) for each in locked
    }


_PLACE: Final = tuple_(Document.kind, Document.key)
_REFS: Final[dict[Kind, Callable[[AsyncSession, str | None], Awaitable[Sequence[str]]]]] = {
    "contact": _contacts_after,
    "document": _documents_after,
}
_LOCKED: Final[dict[Kind, Callable[[AsyncSession, Sequence[str]], Awaitable[dict[str, Text]]]]] = {
    "contact": _locked_contacts,
    "document": _locked_documents,
}


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
    return None if contact is None else _text_of(contact)


def _text_of(contact: Contact) -> Text:
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
    return None if content is None else _text_in(kind, key, content)


def _text_in(kind: str, key: str, content: dict[str, Any]) -> Text:
    return Text(
        title=_title(kind, key, content), body=" ".join([*_words(content), f"{kind} {key}"])
    )


def _title(kind: str, key: str, content: dict[str, Any]) -> str:
    """Returns a title that a customer can read; a document of another kind has its name."""
    match kind, content:
        case "report.daily", _:
            return f"Daily report {key}"
        case "report.requested", {"kind": str(what), "parameters": {"first": first, "last": last}}:
            return f"Report: {what.replace('.', ' ').replace('_', ' ')}, {first} to {last}"
    return f"{kind} {key}"


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
