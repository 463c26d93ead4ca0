"""Importing contacts: every row is imported, updated or rejected, whatever the file contains."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment

from activities import imports
from activities.cleanup import KEPT
from activities.contact_batches import UNNEST_MAX, prepare
from activities.contact_rows import CheckedRows
from activities.imports import FinishImport, ImportProgress, Imports, ImportSlice, finish_import
from activities.uploads import FileTooLarge, begin_import
from saas.database.contacts import Import, ImportStatus, RejectedRow, SeenEmail
from saas.database.tables import AuditEntry
from saas.queues import Queue
from temporal_tenancy.core.csv_safety import original_cell
from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.contact_files import (
    Handle as Handle,
)
from tests.fixtures.contact_files import (
    begin,
    contacts_of,
    counts,
    error_file,
    error_rows,
    kept,
    pieces_of,
    run,
    start,
)
from tests.fixtures.held_locks import clock_of, gate, holding, until_waiting
from tests.fixtures.modes import Where
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.cleanup import CleanUpExpired, CleanUpExpiredInput
from workflows.imports import ImportContacts

HEADER = "email,name,phone,company,country\n"


async def count(database: Database, model: type[Any]) -> int:
    with within(database, "acme"):
        async with tenant_session() as session:
            return await session.scalar(select(func.count()).select_from(model)) or 0


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}


def people(number: int, *, first: int = 0) -> str:
    return "".join(
        f"person{n}@acme.example,Person {n},+1 555 {n:04},Acme,US\n"
        for n in range(first, first + number)
    )


@pytest.mark.usefixtures("importing_worker")
@pytest.mark.parametrize("batch_size", [100, 5_000])
async def test_each_row_becomes_a_contact_by_either_way_of_writing(
    saas: Client, database: Database, batch_size: int
) -> None:
    ended = await run(saas, database, HEADER + people(2_503), batch_size=batch_size)
    assert counts(ended) == ("completed", 2_503, 2_503, 0, 0)
    found = await contacts_of(database)
    assert len(found) == 2_503
    assert (found[0].email, found[0].name, found[0].phone, found[0].company, found[0].country) == (
        "person0@acme.example",
        "Person 0",
        "+1 555 0000",
        "Acme",
        "US",
    )
    assert await contacts_of(database, "globex") == []


@pytest.mark.usefixtures("importing_worker")
async def test_a_contact_that_is_there_is_changed_and_keeps_what_the_file_leaves_empty(
    saas: Client, database: Database
) -> None:
    await run(saas, database, "email,name,phone,vip\nann@acme.example,Ann,1,yes\n")
    ended = await run(
        saas, database, "Email, Name ,phone,seat\n ANN@Acme.example , Anna ,,4A\nb@c.example,B,,\n"
    )
    assert counts(ended) == ("completed", 2, 1, 1, 0)
    ann, _ = await contacts_of(database)
    assert (ann.email, ann.name, ann.phone) == ("ann@acme.example", "Anna", "1")
    assert ann.attributes == {"vip": "yes", "seat": "4A"}
    assert ann.updated_at > ann.created_at


@pytest.mark.usefixtures("importing_worker")
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("batch_size", [100, 5_000])
async def test_a_second_row_with_an_e_mail_counts_as_updated_also_in_a_dry_run(
    saas: Client, database: Database, dry_run: bool, batch_size: int
) -> None:
    await run(saas, database, HEADER + people(50))
    twice = people(150) + people(250, first=100) + "nobody,,,,\n"
    ended = await run(saas, database, HEADER + twice, dry_run=dry_run, batch_size=batch_size)
    # 350 addresses, 50 of which existed; 400 rows of contacts.
    assert counts(ended) == ("completed", 401, 300, 100, 1)
    assert len(await contacts_of(database)) == (50 if dry_run else 350)
    assert await count(database, SeenEmail) == 0


def test_a_dry_run_formats_no_rows() -> None:
    emails = [f"p{n}@acme.example" for n in range(UNNEST_MAX + 1)]
    checked = CheckedRows(contacts=dict.fromkeys(emails, ("", "", "", "")))
    assert prepare(checked, dry_run=True).csv is None
    assert prepare(checked).csv is not None


@pytest.mark.usefixtures("importing_worker")
async def test_the_later_of_two_rows_wins_as_far_as_it_says_something(
    saas: Client, database: Database
) -> None:
    content = "email,name,phone,a,b\nx@y.example,Old,1,1,1\nx@y.example,New,,,2\n"
    assert counts(await run(saas, database, content)) == ("completed", 2, 1, 1, 0)
    [contact] = await contacts_of(database)
    assert (contact.name, contact.phone, contact.attributes) == ("New", "1", {"a": "1", "b": "2"})


@pytest.mark.usefixtures("importing_worker")
async def test_rejected_rows_are_in_a_file_with_their_numbers_and_reasons(
    saas: Client, database: Database
) -> None:
    content = (
        "email,=name\n"
        "ok@acme.example,fine\n"
        "not an address,=1+1\n"
        '"two\nlines@acme.example",x\n'
        "\n"
        ",nobody\n"
        "a@b.example\n"
        "a@b.example,x,y\n"
        "nul@acme.example,\0\n"
        'quote@acme.example,"open\n'
        "last@acme.example,+1\n"
    )
    ended = await run(saas, database, content)
    assert counts(ended) == ("completed", 8, 2, 1, 5)
    assert ended.error_file == f"acme/imports/{ended.id}-rejected.csv"
    assert await error_rows(database, ended) == [
        ["row", "line", "reason", "email", "'=name"],
        ["2", "3", "its e-mail is not an address", "not an address", "'=1+1"],
        ["3", "4", "its e-mail is not an address", "two\nlines@acme.example", "x"],
        ["4", "7", "it has no e-mail", "", "nobody"],
        ["7", "10", "it has a NUL byte", "nul@acme.example", "�"],
        [
            "8",
            "11",
            "a quote that it opens is not closed, so the 1 lines after it, which are the rest of "
            "the file, are in that cell",
            'quote@acme.example,"open',
        ],
    ]
    assert await count(database, RejectedRow) == 0
    assert [each.email for each in await contacts_of(database)] == [
        "a@b.example",
        "ok@acme.example",
    ]


@pytest.mark.usefixtures("importing_worker")
async def test_a_rejected_row_is_no_formula_for_who_splits_elsewhere_and_is_read_back_exactly(
    saas: Client, database: Database
) -> None:
    ended = await run(saas, database, "email,name\nbad;=1+2;,'=x\n")
    text = await error_file(database, ended)
    assert all(cell.startswith('"') for cell in text.split("\r\n")[1].split(","))
    for separator in ";", "\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not any(cell.lstrip("\"' ").startswith("=") and cell[0] != "'" for cell in row)
    [_, row] = await error_rows(database, ended)
    assert row[3:] == ["bad;'=1+2;", "''=x"]
    assert list(map(original_cell, row[3:])) == ["bad;=1+2;", "'=x"]


UNREADABLE = [
    (b"", "the file is empty"),
    (b"\xef\xbb\xbf\r\n \r\n", "the file is empty"),
    (b"name,phone\nAnn,1\n", 'has no column "email"'),
    (b"name,\x1b[2J\nAnn,1\n", 'It has: "name", "[2J".'),
    (b"email,name,Name\na@b.example,1,2\n", 'names a column twice: "name"'),
    (b"email,x\0\na@b.example,1\n", "NUL byte"),
    (b'email,"name\na@b.example,Ann\n', "the header cannot be read"),
    (b"PK\x03\x04" + bytes(range(256)) * 10, "an archive or compressed (zip)"),
    (b'[{"email": "a@b.example"}]', "the file is JSON"),
    (b"x" * 200_000, "longer than 131,072 characters"),
]


@pytest.mark.usefixtures("importing_worker")
async def test_a_file_that_cannot_be_read_fails_with_a_sentence(
    saas: Client, database: Database
) -> None:
    for content, sentence in UNREADABLE:
        ended = await run(saas, database, content)
        assert (ended.status, ended.ended_at is None) == ("failed", False)
        assert sentence in (ended.error or "")


@pytest.mark.usefixtures("importing_worker")
async def test_a_header_without_rows_is_an_import_of_nothing(
    saas: Client, database: Database
) -> None:
    for content in ("email", "email,name\r\n", "email\n\n\n"):
        ended = await run(saas, database, content)
        assert counts(ended) == ("completed", 0, 0, 0, 0)
        assert ended.error_file is None


ENCODINGS = [
    ("utf-8", b""),
    ("utf-8", b"\xef\xbb\xbf"),
    ("cp1252", b""),
    ("utf-16-le", b"\xff\xfe"),
    ("utf-16-be", b"\xfe\xff"),
    ("utf-16-le", b""),
]


@pytest.mark.usefixtures("importing_worker")
async def test_names_are_right_in_every_encoding(saas: Client, database: Database) -> None:
    for number, (encoding, mark) in enumerate(ENCODINGS):
        rows = "".join(f"p{n}@acme.example;Zoë “Ærø” {number} {n}\r\n" for n in range(300))
        content = mark + f"email;name\r\n{rows}".encode(encoding)
        named = encoding if encoding == "cp1252" else None
        ended = await run(saas, database, content, encoding=named, batch_size=100)
        assert (ended.status, ended.rows, ended.rejected) == ("completed", 300, 0)
        assert ended.position == ended.size == len(content)
        names = {each.name for each in await contacts_of(database)}
        assert names == {f"Zoë “Ærø” {number} {n}" for n in range(300)}


@pytest.fixture
async def worker_of_short_slices(saas: Client, two_airlines: None) -> AsyncIterator[None]:
    """A worker whose slices are one batch each."""
    short = Imports(slice_seconds=0.0).import_slice
    async with saas_worker(saas, short, task_queue=Queue.DEFAULT):
        yield


@pytest.mark.usefixtures("worker_of_short_slices")
async def test_a_slice_goes_on_where_the_one_before_ended(saas: Client, database: Database) -> None:
    rows = "".join(f'p{n}@acme.example,"Zoë,\r\n""{n}"""\r\n' for n in range(950)) + "x,y\r\n"
    import_id = await begin(database, "email,name\r\n" + rows)
    handle = await start(saas, import_id, batch_size=100)
    assert (await handle.result()).imported == 950
    ended = await kept(database, import_id)
    assert counts(ended) == ("completed", 951, 950, 0, 1)
    assert ended.position == ended.size
    assert (await error_rows(database, ended))[1][:2] == ["951", str(2 + 2 * 950)]
    names = {each.name for each in await contacts_of(database)}
    assert names == {f'Zoë,\r\n"{n}"' for n in range(950)}
    # One for the header, one per batch, and one that finds no more rows.
    slices = 0
    async for event in handle.fetch_history_events():
        scheduled = event.activity_task_scheduled_event_attributes
        slices += scheduled.activity_type.name == "import_slice"
    assert slices == 12


@pytest.mark.usefixtures("importing_worker")
async def test_progress_is_told_by_the_query_and_by_the_details(
    saas: Client, database: Database
) -> None:
    import_id = await begin(database, HEADER + people(10))
    handle = await start(saas, import_id)
    await handle.result()
    progress = await handle.query(ImportContacts.progress)
    assert (progress.status, progress.rows, progress.read) == ("completed", 10, progress.size)
    details = await handle.query("__temporal_workflow_metadata", result_type=dict)
    assert "10 rows read (100 % of the file), 10 contacts imported" in str(details)


async def test_what_is_asked_before_the_first_slice_is_answered_with_zeros(
    saas: Client, database: Database, two_airlines: None
) -> None:
    import_id = await begin(database, HEADER + people(10))
    handle = await start(saas, import_id)
    async with saas_worker(
        saas, task_queue=Queue.DEFAULT, activities=[], no_remote_activities=True
    ):
        progress = await handle.query(ImportContacts.progress)
    assert (progress.status, progress.rows) == ("processing", 0)


async def test_a_cancelled_import_keeps_what_was_imported_and_counts_it(
    saas: Client, database: Database, where: Where, two_airlines: None
) -> None:
    urls, schema = where("acme")
    import_id = await begin(database, HEADER + people(1_000) + "bad,,,,\n")
    with within(database, "acme"):
        for _ in range(4):  # the header, and three batches
            batch = ImportSlice(import_id=import_id, batch_size=100)
            await in_activity(Imports(slice_seconds=0.0).import_slice, batch)
    async with saas_worker(saas, task_queue=Queue.DEFAULT):
        with holding(urls.tenant, "acme", "select from imports for update", schema=schema):
            handle = await start(saas, import_id, batch_size=100)
            await until_waiting(urls.superuser)  # the next slice
            cancelled = clock_of(urls.superuser)
            await handle.cancel()
            await until_waiting(urls.superuser, since=cancelled)  # the end of the import
        # The abandoned attempt comes to write, and finds that the import has ended.
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
        assert isinstance(raised.value.cause, CancelledError)
    ended = await kept(database, import_id)
    assert counts(ended) == ("cancelled", 300, 300, 0, 0)
    assert len(await contacts_of(database)) == 300


async def test_the_errors_of_a_batch_that_comes_late_are_in_the_file_too(
    database: Database, where: Where, two_airlines: None
) -> None:
    urls, schema = where("acme")
    import_id = await begin(database, "email\n" + "bad\n" * 200)
    with within(database, "acme"):
        async with aclosing(imports._read(await imports._open(import_id), 100)) as steps:
            header, first, late = [step async for step in steps]
        opened = await imports._write(await imports._open(import_id), header)
        opened = await imports._write(opened, first)
        finish = FinishImport(import_id=import_id, status=ImportStatus.CANCELLED)
        with holding(urls.tenant, "acme", "select from imports for update", schema=schema):
            writing = asyncio.create_task(imports._write(opened, late))
            await until_waiting(urls.superuser)
            ending = asyncio.create_task(in_activity(finish_import, finish))
            # It has written its file, but its turn has not come.
            await until_waiting(urls.superuser, 2)
        await asyncio.gather(writing, ending)
    ended = await kept(database, import_id)
    assert (counts(ended), len(await error_rows(database, ended))) == (
        ("cancelled", 200, 0, 0, 200),
        201,
    )


async def in_activity(function: Any, request: Any) -> Any:
    """Calls an activity like a worker, with a heartbeat timeout."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(seconds=20))
    return await environment.run(function, request)


async def test_an_attempt_that_was_overtaken_writes_nothing(
    database: Database, two_airlines: None
) -> None:
    import_id = await begin(database, HEADER + people(300))
    with within(database, "acme"):
        opened = await imports._open(import_id)
        async with aclosing(imports._read(opened, 100)) as steps:
            header, batch = await anext(steps), await anext(steps)
        behind_header = await imports._write(opened, header)
        await imports._write(behind_header, batch)
        with pytest.raises(imports._Overtaken):
            await imports._write(behind_header, batch)
    assert counts(await kept(database, import_id)) == ("processing", 100, 100, 0, 0)


@pytest.mark.usefixtures("importing_worker")
async def test_the_end_is_told_to_the_tenant_and_in_the_audit_log_once(
    saas: Client, database: Database
) -> None:
    ended = await run(saas, database, HEADER + people(3) + "bad,,,,\n")
    with within(database, "acme"):
        async with tenant_session() as session:
            query = select(OutboxMessage).where(OutboxMessage.job == "notifications.send")
            [message] = await session.scalars(query)
            [entry] = await session.scalars(select(AuditEntry))
    assert message.key == f"import-{ended.id}"
    assert message.payload["reference"] == f"imports/{ended.id}"
    assert "3 contacts imported, 0 updated, 1 rejected" in message.payload["body"]
    assert (entry.action, entry.subject) == ("import.completed", str(ended.id))
    assert entry.details == {"dry_run": False, "imported": 3, "updated": 0, "rejected": 1}


async def test_an_upload_is_an_import_and_its_job_in_one_transaction(
    database: Database, two_airlines: None, storage_folder: Path
) -> None:
    import_id = await begin(database, HEADER + people(1), batch_size=100)
    begun = await kept(database, import_id)
    assert counts(begun) == ("processing", 0, 0, 0, 0)
    assert (begun.file_name, begun.started_by, begun.dry_run) == ("people.csv", "ann", False)
    with within(database, "acme"):
        async with tenant_session() as session:
            [message] = await session.scalars(select(OutboxMessage))
    assert (message.job, message.key) == ("contacts.import", str(import_id))
    assert message.payload == {"import_id": str(import_id), "batch_size": 100}
    assert (storage_folder / begun.path).is_file()


async def test_an_upload_whose_job_is_refused_leaves_neither_an_import_nor_a_file(
    database: Database, two_airlines: None, storage_folder: Path
) -> None:
    with pytest.raises(Exception, match="batch_size"):
        await begin(database, HEADER, batch_size=1)
    assert await count(database, Import) == 0
    assert files_in(storage_folder) == []


async def test_an_upload_that_is_too_large_is_refused_while_it_comes(
    database: Database, two_airlines: None, storage_folder: Path
) -> None:
    with pytest.raises(FileTooLarge, match=r"larger than 97\.7 KiB\. Import it in parts"):
        await begin(database, "x" * 200_000, max_bytes=100_000)
    assert await count(database, Import) == 0
    assert files_in(storage_folder) == []


@pytest.mark.usefixtures("two_airlines")
async def test_an_upload_without_a_tenant_is_refused() -> None:
    with pytest.raises(ScopeMissing):
        await begin_import(pieces_of(b""), file_name="x", started_by="x")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def failure(handle: Handle) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, ApplicationError)
    return raised.value.cause.cause


@pytest.mark.usefixtures("importing_worker")
async def test_another_tenants_import_is_not_found(saas: Client, database: Database) -> None:
    import_id = await begin(database, HEADER + people(3))
    foreign = await start(saas, import_id, tenant="globex")
    assert (await failure(foreign)).type == "ImportNotFound"
    assert (await failure(await start(saas, uuid4()))).type == "ImportNotFound"
    assert counts(await kept(database, import_id)) == ("processing", 0, 0, 0, 0)
    assert await contacts_of(database, "globex") == []


@pytest.mark.usefixtures("worker_of_short_slices")
async def test_an_import_whose_job_failed_goes_on_when_it_is_started_again(
    saas: Client, database: Database, where: Where, storage_folder: Path
) -> None:
    urls, schema = where("acme")
    rows = "bad\n" + "a@b.example\n" * 99 + "nobody\n" * 150
    import_id = await begin(database, f"email\n{rows}")
    file = storage_folder / (await kept(database, import_id)).path
    with gate(urls.owner, "insert on import_rejected_rows", schema):
        handle = await start(saas, import_id, batch_size=100)
        await until_waiting(urls.superuser)  # the first batch
        file.rename(file.with_suffix(".away"))
    failed = await failure(handle)
    assert failed.type == "ObjectNotFound"
    half = await kept(database, import_id)
    assert counts(half) == ("failed", 100, 1, 98, 1)
    assert half.error is not None
    assert half.error.startswith("ObjectNotFound: there is no object acme/imports/")
    file.with_suffix(".away").rename(file)
    await (await start(saas, import_id, batch_size=100)).result()
    ended = await kept(database, import_id)
    assert (ended.status, ended.error, ended.rows) == ("completed", None, 250)
    assert [row[0] for row in (await error_rows(database, ended))[1:3]] == ["1", "101"]


@pytest.mark.usefixtures("importing_worker")
async def test_tenants_import_the_same_addresses_side_by_side(
    saas: Client, database: Database
) -> None:
    handles = []
    for tenant in ("acme", "globex"):
        import_id = await begin(database, HEADER + people(300), tenant=tenant)
        handles.append(await start(saas, import_id, tenant=tenant, batch_size=100))
    results: Sequence[ImportProgress] = await asyncio.gather(*(each.result() for each in handles))
    assert [(each.status, each.imported) for each in results] == [(ImportStatus.COMPLETED, 300)] * 2
    assert len(await contacts_of(database)) == len(await contacts_of(database, "globex")) == 300


@pytest.mark.usefixtures("importing_worker")
async def test_two_imports_of_one_tenant_in_other_orders_do_not_block_each_other(
    saas: Client, database: Database
) -> None:
    rows = people(2_000).splitlines(keepends=True)
    handles = []
    for order in (rows, rows[::-1]):
        import_id = await begin(database, HEADER + "".join(order))
        handles.append(await start(saas, import_id, batch_size=500))
    results = await asyncio.gather(*(each.result() for each in handles))
    assert sum(each.imported for each in results) == sum(each.updated for each in results) == 2_000


@pytest.mark.usefixtures("importing_worker")
async def test_an_old_import_goes_with_its_files_and_its_contacts_stay(
    saas: Client, database: Database, storage_folder: Path
) -> None:
    old = await run(saas, database, HEADER + people(3) + "nobody,,,,\n")
    fresh = await run(saas, database, HEADER + people(1, first=9) + "nobody,,,,\n")
    with within(database, "acme"):
        async with tenant_session() as session:
            kept_long = Import.ended_at - KEPT - timedelta(days=1)
            await session.execute(
                update(Import).where(Import.id == old.id).values(ended_at=kept_long)
            )
    report = await saas.execute_workflow(
        CleanUpExpired.run,
        CleanUpExpiredInput(tenant_id="acme"),
        id="acme/cleanup.expired/1",
        task_queue=Queue.DEFAULT,
    )
    assert report.deleted["imports"] == 1
    assert files_below(storage_folder) == {fresh.path, fresh.error_file}
    assert len(await contacts_of(database)) == 4
