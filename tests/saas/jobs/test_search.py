"""Search finds items by their present text, and only the tenant's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from activities import search as module
from activities.search import (
    IndexDocument,
    ask_for_changed_contacts,
    ask_for_index,
    index_document,
)
from saas.database.contacts import Contact
from saas.database.search import Found, SearchDocument, search
from saas.database.tables import Document
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.core.inputs import read_input
from temporal_tenancy.core.jobs import job_of
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.outbox._events import use_event_id
from temporal_tenancy.postgres._awaited_session import AwaitedSession
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.search import IndexForSearch, ReindexForSearch, ReindexInput, ReindexReport


async def give_contact(database: Database, tenant: str, **fields: Any) -> UUID:
    with within(database, tenant):
        async with tenant_session() as session:
            added = insert(Contact).values(fields).returning(Contact.id)
            return (await session.scalars(added)).one()


async def index(database: Database, tenant: str, kind: str, ref: object, event: str) -> None:
    request = IndexDocument.model_validate({"tenant_id": tenant, "kind": kind, "ref": str(ref)})
    with within(database, tenant), use_event_id(event):
        await index_document(request)


async def find(database: Database, tenant: str, query: str, limit: int = 20) -> Sequence[Found]:
    with within(database, tenant):
        async with tenant_session() as session:
            return await search(session, query, limit)


async def refs(database: Database, tenant: str, query: str) -> list[str]:
    return [found.ref for found in await find(database, tenant, query)]


async def test_a_contact_is_found_by_what_it_says(database: Database) -> None:
    contact = await give_contact(
        database,
        "acme",
        email="rosa@rail.example",
        name="Rosa Łuczak",
        company="Rail & Sons",
        attributes={"seat": "window", "years": [1987], "vip": True, "none": None},
    )
    await index(database, "acme", "contact", contact, "1")
    for query in (
        "rosa",
        "ŁUCZAK",
        '"rail & sons"',
        "window 1987",
        "rosa@rail.example",
        "x or rosa",
    ):
        [found] = await find(database, "acme", query)
        assert (found.kind, found.ref, found.title) == ("contact", str(contact), "Rosa Łuczak")
    assert "Rail & Sons" in found.snippet
    for query in ("ros", "rosa -window", "rosa nobody", "", "&|!", "'; drop table"):
        assert await find(database, "acme", query) == []


@pytest.mark.parametrize(
    "query",
    [
        *("bob", "BOB", "example.com", "big.example.com", "example", "bob.o-neil_jr", "neil"),
        *("bob.o-neil_jr@big.example.com", '"bob.o-neil_jr@big.example.com"', "alert", "script"),
        *("<script>alert(1)</script>", "www.site.test/über", "über", "o'hara", "+49-170", "170"),
        *("nobody or bob", "bob -nobody", "bob -example.org"),
    ],
)
async def test_a_contact_is_found_by_the_parts_of_an_address(
    database: Database, query: str
) -> None:
    contact = await give_contact(
        database,
        "acme",
        email="bob.o-neil_jr@big.example.com",
        name="<script>alert(1)</script>",
        phone="+49-170",
        attributes={"site": "https://www.site.test/über?x=1", "boss": "O'Hara"},
    )
    await index(database, "acme", "contact", contact, "1")
    assert await refs(database, "acme", query) == [str(contact)]
    for other in ("bob -example.com", "-alert(1) bob", "com.example", '"example big"', "@", '"."'):
        assert await refs(database, "acme", other) == []


async def test_a_document_is_found_by_what_is_in_it(database: Database) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            content = {"routes": [{"origin": "JFK", "destination": "HNL"}], "events": 12}
            session.add(Document(kind="report.daily", key="2013-04-01", content=content))
    await index(database, "acme", "document", "report.daily/2013-04-01", "1")
    assert await refs(database, "acme", "jfk hnl 12") == ["report.daily/2013-04-01"]
    for query in ("2013-04-01", "report", "daily", "report.daily", "2013-04"):
        assert await refs(database, "acme", query) == ["report.daily/2013-04-01"]


async def test_a_report_is_found_by_what_it_is_and_has_a_title_to_read(database: Database) -> None:
    parameters = {"first": "2013-04-01", "last": "2013-04-30"}
    documents = {
        "report.daily/2013-04-01": ({"events": 1}, "Daily report 2013-04-01"),
        "report.requested/7": (
            {"kind": "usage.by_route", "parameters": parameters},
            "Report: usage by route, 2013-04-01 to 2013-04-30",
        ),
        "note/7": ({"kind": "usage.by_route"}, "note 7"),
    }
    with within(database, "acme"):
        async with tenant_session() as session:
            for ref, (content, _) in documents.items():
                kind, _, key = ref.partition("/")
                session.add(Document(kind=kind, key=key, content=content))
    for ref in documents:
        await index(database, "acme", "document", ref, ref)
    found = {each.ref: each.title for each in await find(database, "acme", "report or note")}
    assert found == {ref: title for ref, (_, title) in documents.items()}
    assert await refs(database, "acme", "usage report") == ["report.requested/7"]


async def test_nothing_of_another_tenants_is_found(database: Database) -> None:
    for tenant in ("acme", "globex"):
        contact = await give_contact(
            database, tenant, email=f"shared@{tenant}.example", name="Same"
        )
        await index(database, tenant, "contact", contact, "1")
        # The other tenant's id does not exist here.
        await index(database, "acme" if tenant == "globex" else "globex", "contact", contact, "2")
    [found] = await find(database, "acme", "same")
    assert "acme" in found.snippet
    [found] = await find(database, "globex", "same")
    assert "globex" in found.snippet
    assert await find(database, "initech", "same") == []


async def test_titles_come_first_and_results_are_limited(database: Database) -> None:
    for number in range(3):
        contact = await give_contact(
            database, "acme", email=f"{number}@x.example", name=f"N{number}", company="Zeppelin"
        )
        await index(database, "acme", "contact", contact, str(number))
    titled = await give_contact(database, "acme", email="z@x.example", name="Zeppelin")
    await index(database, "acme", "contact", titled, "titled")
    assert (await refs(database, "acme", "zeppelin"))[0] == str(titled)
    assert len(await find(database, "acme", "zeppelin", limit=2)) == 2


async def test_an_entry_follows_its_thing_and_goes_with_it(database: Database) -> None:
    contact = await give_contact(database, "acme", email="a@x.example", name="Before")
    await index(database, "acme", "contact", contact, "1")
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(update(Contact).values(name="After"))
    await index(database, "acme", "contact", contact, "2")
    assert await refs(database, "acme", "before") == []
    assert await refs(database, "acme", "after") == [str(contact)]
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(delete(Contact))
    await index(database, "acme", "contact", contact, "3")
    assert await refs(database, "acme", "after") == []


async def test_a_message_is_dealt_with_once(database: Database) -> None:
    contact = await give_contact(database, "acme", email="a@x.example", name="Ada")
    await index(database, "acme", "contact", contact, "1")
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(delete(SearchDocument))
    await index(database, "acme", "contact", contact, "1")
    assert await refs(database, "acme", "ada") == []
    await index(database, "acme", "contact", contact, "2")
    assert await refs(database, "acme", "ada") == [str(contact)]


async def test_of_two_messages_at_once_the_later_reads_what_the_first_did_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = await give_contact(database, "acme", email="a@x.example", name="Before")
    read, go_on = asyncio.Event(), asyncio.Event()
    source = module._contact
    waits = [True]

    async def slowly(session: Any, ref: str) -> Any:
        found = await source(session, ref)
        if waits.pop() if waits else False:
            read.set()
            await go_on.wait()
        return found

    monkeypatch.setitem(module._SOURCES, "contact", slowly)
    first = asyncio.create_task(index(database, "acme", "contact", contact, "1"))
    await read.wait()
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(update(Contact).values(name="After"))
    second = asyncio.create_task(index(database, "acme", "contact", contact, "2"))
    async with asyncio.timeout(30):
        while not await waits_for_a_lock(database):
            pass
    go_on.set()
    await asyncio.gather(first, second)
    assert await refs(database, "acme", "after") == [str(contact)]


async def waits_for_a_lock(database: Database) -> bool:
    with within(database, "acme"):
        async with tenant_session() as session:
            return bool(
                await session.scalar(text("select exists (select from pg_locks where not granted)"))
            )


async def test_what_is_huge_is_found_by_its_beginning(database: Database) -> None:
    words = " ".join(f"word{number}" for number in range(100_000))
    contact = await give_contact(database, "acme", email="a@x.example", attributes={"all": words})
    await index(database, "acme", "contact", contact, "1")
    assert await refs(database, "acme", "word5") == [str(contact)]
    assert await refs(database, "acme", "word99999") == []


@pytest.mark.parametrize(("query", "limit"), [("x" * 1_001, 1), ("\x00", 1), ("x", 0), ("x", 101)])
async def test_a_search_that_is_none_is_refused(database: Database, query: str, limit: int) -> None:
    with pytest.raises(ValueError, match=r"a (query|limit) is"):
        await find(database, "acme", query, limit)


async def test_only_the_tenants_rows_are_looked_at(database: Database) -> None:
    rows = [
        {"kind": "contact", "ref": str(number), "title": "Same", "body": "x " * 20}
        for number in range(200)
    ]
    for tenant in ("acme", *(f"t{number}" for number in range(20))):
        with within(database, tenant):
            async with tenant_session() as session:
                await session.execute(
                    insert(SearchDocument), rows if tenant != "acme" else rows[:5]
                )
    with within(database, "acme"):
        async with tenant_session() as session:
            plan = await session.execute(
                text(
                    "explain (analyze, costs off, timing off) select ref from search_documents "
                    "where tenant_id = 'acme' and words @@ to_tsquery('simple', 'nowhere')"
                )
            )
            lines = "\n".join(plan.scalars())
    assert "Index Cond: (tenant_id = 'acme'::text)" in lines
    assert "Rows Removed by Filter: 5" in lines


@pytest.mark.parametrize("kind", ["user", "", None])
def test_a_kind_that_is_unknown_does_not_fit_the_job(kind: str | None) -> None:
    job = job_of(IndexForSearch)
    assert job is not None
    values = {"tenant_id": "acme", "kind": kind, "ref": "1"}
    with pytest.raises(InvalidPayload):
        read_input(job.input_model, values, what="the input of search.index")


# Contacts that an import has changed together.


async def give_contacts(database: Database, tenant: str, *names: str) -> datetime:
    """Adds contacts in one transaction; returns their time, by which one message names them."""
    with within(database, tenant):
        async with tenant_session() as session:
            rows = [{"email": f"{name}@{tenant}.example", "name": name} for name in names]
            await session.execute(insert(Contact), rows)
            return (await session.execute(select(func.now()))).scalar_one()


async def test_contacts_that_changed_together_are_indexed_by_one_message(
    database: Database,
) -> None:
    at = await give_contacts(database, "acme", "ann", "bob")
    await give_contacts(database, "acme", "cid")
    await give_contacts(database, "globex", "dan")
    with within(database, "acme"):
        async with tenant_session() as session:
            await ask_for_changed_contacts(at, version="import")
            [message] = (await session.scalars(select(OutboxMessage))).all()
    for tenant in ("globex", "acme"):
        await index(database, tenant, "contact", message.payload["ref"], "1")
    found = [await refs(database, "acme", name) for name in ("ann", "bob", "cid")]
    assert [len(each) for each in found] == [1, 1, 0]
    assert await refs(database, "globex", "dan") == []


async def test_a_contact_that_has_changed_since_is_left_to_the_later_message(
    database: Database,
) -> None:
    """The order in which two messages are worked off does not matter, nor that they overlap."""
    first = await give_contacts(database, "acme", "ann")
    with within(database, "acme"):
        async with tenant_session() as session:
            new = {"name": "Anna", "email": "anna@acme.example"}
            changed = update(Contact).values(**new, updated_at=func.now())
            await session.execute(changed)
            second = (await session.execute(select(func.now()))).scalar_one()
    for event, at in (("2", second), ("1", first)):
        await index(database, "acme", "contact", f"changed/{at.isoformat()}", event)
        assert len(await refs(database, "acme", "anna")) == 1
    assert await refs(database, "acme", "ann") == []


async def test_a_change_waits_for_the_message_that_is_being_worked_off(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the entry could get the older text after the newer one."""
    at = await give_contacts(database, "acme", "ann")
    read, written = asyncio.Event(), asyncio.Event()
    text_of = module._text_of

    def slow(contact: Contact) -> module.Text:
        read.set()
        return text_of(contact)

    execute = AwaitedSession.execute

    async def held(self: AsyncSession, statement: Any, *others: Any, **options: Any) -> Any:
        if statement is module._INDEX:
            await written.wait()
        return await execute(self, statement, *others, **options)

    monkeypatch.setattr(module, "_text_of", slow)
    monkeypatch.setattr(AwaitedSession, "execute", held)
    indexing = asyncio.create_task(
        index(database, "acme", "contact", f"changed/{at.isoformat()}", "1")
    )
    await read.wait()

    async def change() -> None:
        with within(database, "acme"):
            async with tenant_session() as session:
                await session.execute(update(Contact).values(name="Anna"))

    changing = asyncio.create_task(change())
    async with asyncio.timeout(30):
        while not await waits_for_a_lock(database):
            pass
    assert not changing.done()
    written.set()
    await asyncio.gather(indexing, changing)
    assert len(await refs(database, "acme", "ann")) == 1


@pytest.mark.parametrize(
    "ref", ["changed/", "changed/2013-04-01", "changed/x", "changed/2013-04-01T00:00:00Z"]
)
async def test_a_time_at_which_nothing_changed_indexes_nothing(
    database: Database, ref: str
) -> None:
    await give_contact(database, "acme", email="a@x.example", name="Ada")
    await index(database, "acme", "contact", ref, "1")
    assert await refs(database, "acme", "ada") == []


@pytest.fixture
async def worker(saas: Client, tenants: Tenants) -> AsyncIterator[None]:
    await tenants.add("acme", "acme", plan="free")
    async with saas_worker(saas, task_queue=Queue.BULK):
        yield


@pytest.mark.usefixtures("worker")
async def test_the_job_indexes_what_was_asked_for_with_the_change(
    saas: Client, database: Database
) -> None:
    contact = await give_contact(database, "acme", email="a@x.example", name="Ada")
    with within(database, "acme"):
        async with tenant_session() as session:
            for version in ("1", "1", "2"):
                await ask_for_index("contact", str(contact), version=version)
            messages = (await session.scalars(select(OutboxMessage))).all()
    assert [message.payload for message in messages] == [
        {"kind": "contact", "ref": str(contact)}
    ] * 2
    await saas.execute_workflow(
        IndexForSearch.run,
        IndexDocument(tenant_id="acme", kind="contact", ref=str(contact)),
        id=f"acme/search.index/{messages[0].key}",
        task_queue=Queue.BULK,
    )
    assert await refs(database, "acme", "ada") == [str(contact)]
    await index(database, "acme", "contact", uuid4(), "nobody")


async def reindex(client: Client, tenant: str, key: str) -> ReindexReport:
    return await client.execute_workflow(
        ReindexForSearch.run,
        ReindexInput(tenant_id=tenant),
        id=f"{tenant}/search.reindex/{key}",
        task_queue=Queue.BULK,
    )


async def test_what_was_there_before_search_is_indexed_page_by_page(
    database: Database, saas: Client, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ITEMS", 2)
    names = ["ann", "bob", "cid", "dan", "eve"]
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="standard")
        await give_contacts(database, tenant, *names)
        with within(database, tenant):
            async with tenant_session() as session:
                for kind, key in (("a", "1"), ("a", "b/1"), ("report.daily", "2013-04-01")):
                    session.add(Document(kind=kind, key=key, content={"of": "Zeppelin"}))
    async with saas_worker(saas):
        report = await reindex(saas, "acme", "1")
        assert report == ReindexReport(contacts=5, documents=3)
        for name in names:
            assert len(await refs(database, "acme", name)) == 1
        assert sorted(await refs(database, "acme", "zeppelin")) == [
            "a/1",
            "a/b/1",
            "report.daily/2013-04-01",
        ]
        assert await refs(database, "globex", "ann or zeppelin") == []
        # Again, after a change that no message told of.
        with within(database, "acme"):
            async with tenant_session() as session:
                await session.execute(
                    update(Contact).where(Contact.name == "ann").values(name="zoe")
                )
        assert await reindex(saas, "acme", "2") == report
    assert len(await refs(database, "acme", "zoe")) == 1


async def test_a_reindexing_goes_on_after_the_last_page_that_was_written(
    database: Database, saas: Client, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ITEMS", 2)
    await tenants.add("acme", "acme", plan="standard")
    await give_contacts(database, "acme", "ann", "bob", "cid", "dan", "eve")
    write = module._write
    pages: list[int] = []

    async def failing(session: AsyncSession, kind: Any, texts: Any) -> None:
        pages.append(len(texts))
        await write(session, kind, texts)
        if len(pages) == 2:
            raise RuntimeError("the connection is lost")

    monkeypatch.setattr(module, "_write", failing)
    async with saas_worker(saas):
        report = await reindex(saas, "acme", "1")
    assert report == ReindexReport(contacts=5, documents=0)
    assert pages == [2, 2, 2, 1, 0]  # the second one twice
