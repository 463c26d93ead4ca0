"""Search: keeps the search index in step with contacts and documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import delete, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from activities.limits import LARGE
from saas.database.contacts import Contact
from saas.database.search import SearchDocument
from saas.database.tables import Document
from temporal_tenancy import TenantInput, current_tenant, tenant_activity, tenant_session
from temporal_tenancy.outbox import current_event_ids, enqueue_many, once, once_each

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


class Texts(Protocol):
    """Reads the texts of the items that there are, by their ref."""

    async def __call__(
        self, session: AsyncSession, refs: Sequence[str], *, lock: bool
    ) -> dict[str, Text]:
        """Returns the texts; `lock` keeps the items as they are until the transaction ends."""


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
    found = await _TEXTS[kind](session, [ref], lock=False)
    return bool(found) or await session.scalar(entry) is not None


@tenant_activity
async def index_document(request: IndexDocument) -> None:
    """Updates the search entry of an item, or deletes it if the item is gone."""
    await index_documents([request])


async def index_documents(requests: list[IndexDocument]) -> None:
    """Updates the search entries of several items in one transaction.

    Each message is processed once. Two messages about one item take turns, and each reads the
    item's current state, so that the entry ends up right in whatever order they arrive.
    """
    changes: dict[str, datetime] = {}  # by event; each is a transaction of its own, and a long one
    items: dict[str, IndexDocument] = {}
    for event_id, request in zip(current_event_ids(), requests, strict=True):
        changed_at = _changed_at(request)
        if changed_at is None:
            items[event_id] = request
        else:
            changes[event_id] = changed_at
    if items:
        async with tenant_session() as session:
            if new := await once_each(session, JOB, list(items)):
                await _index_items(session, [items[event_id] for event_id in new])
    for event_id, changed_at in changes.items():
        async with tenant_session(limits=LARGE) as session:
            if await once(session, JOB, event_id):
                await _index_changed(session, changed_at)


async def _index_items(session: AsyncSession, requests: Sequence[IndexDocument]) -> None:
    refs: dict[Kind, set[str]] = {}
    for request in requests:
        contact = _uuid(request.ref) if request.kind == "contact" else None
        # An id can be spelled in several ways.
        refs.setdefault(request.kind, set()).add(str(contact or request.ref))
    await _take_turns(session, refs)
    for kind, of_kind in refs.items():
        texts = await _TEXTS[kind](session, list(of_kind), lock=False)
        await _write(session, kind, texts)
        if gone := of_kind - texts.keys():
            entries = SearchDocument.kind == kind, SearchDocument.ref.in_(gone)
            await session.execute(delete(SearchDocument).where(*entries))


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
        texts = await _TEXTS[request.kind](session, refs, lock=True)
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


async def _contacts(session: AsyncSession, refs: Sequence[str], *, lock: bool) -> dict[str, Text]:
    # In the order of an import's statement, so that the two do not deadlock.
    known = [contact_id for ref in refs if (contact_id := _uuid(ref)) is not None]
    contacts = select(Contact).where(Contact.id.in_(known)).order_by(Contact.email)
    found = await session.scalars(contacts.with_for_update(read=True) if lock else contacts)
    return {str(each.id): _text_of(each) for each in found}


async def _documents_after(session: AsyncSession, after: str | None) -> Sequence[str]:
    kind, _, key = (after or "").partition("/")
    rows = await session.execute(
        select(Document.kind, Document.key)
        .where(true() if after is None else tuple_(kind, key) < _PLACE)
        .order_by(Document.kind, Document.key)
        .limit(PAGE_ITEMS)
    )
    return [f"{row.kind}/{row.key}" for row in rows]


async def _documents(session: AsyncSession, refs: Sequence[str], *, lock: bool) -> dict[str, Text]:
    places = [ref.partition("/")[::2] for ref in refs]
    documents = select(Document).where(_PLACE.in_(places)).order_by(Document.kind, Document.key)
    found = await session.scalars(documents.with_for_update(read=True) if lock else documents)
    return {
        f"{each.kind}/{each.key}": _text_in(each.kind, each.key, each.content) for each in found
    }


_PLACE: Final = tuple_(Document.kind, Document.key)
_REFS: Final[dict[Kind, Callable[[AsyncSession, str | None], Awaitable[Sequence[str]]]]] = {
    "contact": _contacts_after,
    "document": _documents_after,
}
_TEXTS: Final[dict[Kind, Texts]] = {"contact": _contacts, "document": _documents}


_TAKE_TURNS: Final = text("""
    insert into search_documents (tenant_id, kind, ref, title, body)
    select :tenant, kind, ref, '', ''
      from unnest(cast(:kinds as text[]), cast(:refs as text[])) as given (kind, ref)
     order by kind, ref
    on conflict (tenant_id, kind, ref) do update set kind = excluded.kind
""")


async def _take_turns(session: AsyncSession, refs: Mapping[Kind, Iterable[str]]) -> None:
    """Locks the items' entries until the transaction ends; creates empty ones if needed."""
    items = [(kind, ref) for kind, of_kind in refs.items() for ref in of_kind]
    values = {
        "tenant": current_tenant(),
        "kinds": [kind for kind, _ in items],
        "refs": [ref for _, ref in items],
    }
    await session.execute(_TAKE_TURNS, values)


def _uuid(ref: str) -> UUID | None:
    try:
        return UUID(ref)
    except ValueError:
        return None


def _text_of(contact: Contact) -> Text:
    known = [contact.email, contact.phone, contact.company, contact.country]
    return Text(
        title=contact.name or contact.email,
        body=" ".join([*filter(None, known), *_words(contact.attributes)]),
    )


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


def _words(value: Any) -> Iterator[str]:  # JSON
    """Yields the texts and numbers in a document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
