"""Exports: the right rows in the right tenant's file, once, and deleted when they expire."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pyarrow import parquet
from sqlalchemy import insert, select, text, update
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.cleanup import Cleanup
from activities.datasets import _IN_ORDER, DATASETS, Dataset
from activities.deletion import Batches
from activities.exports import Exports, WrittenExport
from dev.devstack.postgres import DatabaseUrls
from saas.database.contacts import Contact
from saas.database.exports import Export, ExportDataset, ExportFormat
from saas.database.tables import AuditEntry, Invoice, UsageEvent
from saas.queues import Queue
from saas.requests.exports import ExportNotFound, ExportNotReady, begin_export, export_link
from saas.services.links import LinkTarget, read_link
from saas.services.object_storage import ObjectNotFound, current_storage, object_path
from saas.services.tables import Row
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import FeatureNotEnabled
from temporal_tenancy.core.failures import root_cause, type_of
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.held_locks import gate, until_waiting
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.cleanup import CleanUpExpired, CleanUpExpiredInput
from workflows.exports import GenerateExport, GenerateExportInput

HOUR = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of objects, and the HTTP API that serves their links."""
    folder = tmp_path / "objects"
    monkeypatch.setenv("STORAGE_URL", folder.as_uri())
    monkeypatch.setenv("WEB_URL", "https://saas.example")
    monkeypatch.setenv("LINK_SECRET", "a secret")
    return folder


@pytest.fixture
async def customers(tenants: Tenants) -> None:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="enterprise")
    await tenants.add("free", "free", plan="free")


@pytest.fixture
async def worker(saas: Client, customers: None) -> AsyncIterator[None]:
    async with saas_worker(saas):
        yield


def failure_of(error: WorkflowFailureError) -> str:
    return type_of(root_cause(error.cause))


def files(storage: Path) -> set[str]:
    """Returns the ids of the exports that have a file."""
    return {path.stem for path in storage.rglob("*.csv")}


async def give_contacts(database: Database, tenant: str, count: int) -> None:
    rows = [
        {"email": f"{number:05}@{tenant}.example", "name": f"=Person {number}", "phone": "-5"}
        for number in range(count)
    ]
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(insert(Contact), rows)


async def ask(
    database: Database,
    tenant: str,
    dataset: ExportDataset = ExportDataset.CONTACTS,
    format: ExportFormat = ExportFormat.CSV,
) -> UUID:
    with within(database, tenant):
        async with tenant_session() as session:
            return await begin_export(session, dataset, format)


async def generate(client: Client, tenant: str, export_id: UUID, key: str = "") -> WrittenExport:
    report = await client.execute_workflow(
        GenerateExport.run,
        GenerateExportInput(tenant_id=tenant, export_id=export_id),
        id=f"{tenant}/exports.generate/{key or export_id}",
        task_queue=Queue.BULK,
    )
    assert isinstance(report, WrittenExport)
    return report


async def file_of(database: Database, tenant: str, name: str) -> bytes:
    with within(database, tenant):
        pieces = current_storage().open(object_path("exports", name))
        return b"".join([piece async for piece in pieces])


async def row_of(database: Database, tenant: str, export_id: UUID) -> Export | None:
    with within(database, tenant):
        async with tenant_session() as session:
            return await session.scalar(select(Export).where(Export.id == export_id))


async def messages_of(database: Database, tenant: str, job: str) -> list[OutboxMessage]:
    with within(database, tenant):
        async with tenant_session() as session:
            query = select(OutboxMessage).where(OutboxMessage.job == job)
            return list(await session.scalars(query))


@pytest.mark.usefixtures("customers")
async def test_an_export_has_the_tenants_rows_page_by_page_and_harmless(
    saas: Client, database: Database
) -> None:
    await give_contacts(database, "acme", 25)
    await give_contacts(database, "globex", 3)
    export_id = await ask(database, "acme")
    async with saas_worker(saas, Exports(page_rows=10).write_export):
        report = await generate(saas, "acme", export_id)

    content = await file_of(database, "acme", f"{export_id}.csv")
    assert report == WrittenExport(export_id=export_id, rows=25, bytes=len(content))
    read = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["email"] for row in read] == [f"{number:05}@acme.example" for number in range(25)]
    assert {row["name"][:9] for row in read} == {"'=Person "}
    assert {row["phone"] for row in read} == {"'-5"}  # text, and a formula to a spreadsheet
    row = await row_of(database, "acme", export_id)
    assert row is not None
    assert (row.status, row.rows, row.bytes) == ("completed", 25, len(content))


FIVE: dict[ExportDataset, tuple[str, list[str]]] = {
    ExportDataset.CONTACTS: ("email", [f"{number:05}@acme.example" for number in range(5)]),
    ExportDataset.USAGE_EVENTS: ("flight", ["0", "1", "2", "3", "4"]),
    ExportDataset.INVOICES: ("total_cents", ["-1"] * 5),
}
"""What five rows of a dataset have in a column."""


async def give_usage_and_invoices(database: Database, tenant: str) -> None:
    # Two flights with the same hour and carrier, so that a page ends between them.
    event = {"carrier": "AC", "origin": "JFK", "destination": "LAX", "distance": 1}
    flights = [
        {**event, "time_hour": HOUR + timedelta(hours=number // 2), "flight": number}
        for number in range(5)
    ]
    month = {"currency": "USD", "total_cents": -1, "usage_events": 5, "period_start": HOUR}
    months = [{**month, "period": f"2013-0{number}"} for number in range(1, 6)]
    with within(database, tenant):
        async with tenant_session() as session:
            await session.execute(insert(UsageEvent).values(cancelled=False), flights)
            await session.execute(insert(Invoice).values(period_end=HOUR), months)


@pytest.fixture
async def worker_of_pages_of_two(saas: Client, customers: None) -> AsyncIterator[None]:
    async with saas_worker(saas, Exports(page_rows=2).write_export):
        yield


@pytest.mark.usefixtures("worker_of_pages_of_two")
async def test_every_dataset_is_written_in_every_format(saas: Client, database: Database) -> None:
    await give_contacts(database, "acme", 5)
    await give_usage_and_invoices(database, "acme")
    for dataset, format in itertools.product(ExportDataset, ExportFormat):
        export_id = await ask(database, "acme", dataset, format)
        assert (await generate(saas, "acme", export_id)).rows == 5
        content = await file_of(database, "acme", f"{export_id}.{format}")
        if format is ExportFormat.CSV:
            read: Any = list(csv.DictReader(io.StringIO(content.decode())))
        else:
            read = parquet.read_table(io.BytesIO(content)).to_pylist()
        column, values = FIVE[dataset]
        assert [str(row[column]) for row in read] == values


@pytest.mark.usefixtures("worker")
async def test_an_export_without_rows_is_a_header(saas: Client, database: Database) -> None:
    export_id = await ask(database, "acme")
    assert (await generate(saas, "acme", export_id)).rows == 0
    assert (await file_of(database, "acme", f"{export_id}.csv")).startswith(b'"email","name",')


@pytest.mark.usefixtures("worker")
async def test_asking_is_one_transaction_and_so_is_the_notice(
    saas: Client, database: Database
) -> None:
    with within(database, "acme"):
        async with tenant_session() as session:
            await begin_export(session, ExportDataset.CONTACTS, ExportFormat.CSV)
            await session.rollback()
    assert await messages_of(database, "acme", "exports.generate") == []
    export_id = await ask(database, "acme")
    [message] = await messages_of(database, "acme", "exports.generate")
    assert (message.key, message.payload) == (str(export_id), {"export_id": str(export_id)})

    await generate(saas, "acme", export_id)
    again = await generate(saas, "acme", export_id, key="again")
    assert again.rows == 0
    [notice] = await messages_of(database, "acme", "notifications.send")
    assert notice.key == f"export-{export_id}"
    assert notice.payload["reference"] == f"exports/{export_id}"
    assert "downloads" not in str(notice.payload)  # no link, because a link is a credential
    with within(database, "acme"):
        async with tenant_session() as session:
            query = select(AuditEntry).where(AuditEntry.action == "export.completed")
            assert len((await session.scalars(query)).all()) == 1


@dataclass(frozen=True)
class Watched(Dataset):
    """A dataset that shows each row to a test as it is read; the test may abort."""

    show: Callable[[Row], None] = field(kw_only=True)

    async def pages(self, size: int) -> AsyncIterator[Sequence[Row]]:
        async for page in super().pages(size):
            for row in page:
                self.show(row)
            yield page


def contacts_shown(show: Callable[[Row], None]) -> dict[ExportDataset, Dataset]:
    contacts = DATASETS[ExportDataset.CONTACTS]
    return {ExportDataset.CONTACTS: Watched(contacts.columns, contacts.key, show=show)}


@pytest.mark.usefixtures("customers")
async def test_an_attempt_that_fails_leaves_no_file_and_the_next_writes_it_whole(
    saas: Client, database: Database, storage: Path
) -> None:
    await give_contacts(database, "acme", 5)
    export_id = await ask(database, "acme")
    left = [0, 1]

    def break_in_the_second_page(row: Row) -> None:
        if "00003@acme.example" in row and left.pop():
            assert not files(storage)
            raise OSError("cut off")

    breaking = contacts_shown(break_in_the_second_page)
    async with saas_worker(saas, Exports(page_rows=2, datasets=breaking).write_export):
        assert (await generate(saas, "acme", export_id)).rows == 5
    content = await file_of(database, "acme", f"{export_id}.csv")
    assert len(content.splitlines()) == 6
    assert left == []


@pytest.mark.usefixtures("worker")
async def test_another_tenants_export_is_not_found(saas: Client, database: Database) -> None:
    export_id = await ask(database, "acme")
    for foreign in (export_id, uuid4()):
        with pytest.raises(WorkflowFailureError) as caught:
            await generate(saas, "globex", foreign)
        assert failure_of(caught.value) == "ExportNotFound"
    row = await row_of(database, "acme", export_id)
    assert row is not None
    assert row.status == "requested"


@pytest.mark.usefixtures("worker")
async def test_who_has_no_exports_in_the_plan_gets_none(saas: Client, database: Database) -> None:
    export_id = await ask(database, "free")
    with pytest.raises(WorkflowFailureError) as caught:
        await generate(saas, "free", export_id)
    assert failure_of(caught.value) == FeatureNotEnabled.__name__


@pytest.mark.usefixtures("customers")
async def test_a_failed_export_says_so_and_may_still_be_written(
    saas: Client, database: Database
) -> None:
    await give_contacts(database, "acme", 1)
    export_id = await ask(database, "acme")

    def refuse(row: Row) -> None:
        raise ApplicationError("no", non_retryable=True)

    async with saas_worker(saas, Exports(datasets=contacts_shown(refuse)).write_export):
        with pytest.raises(WorkflowFailureError):
            await generate(saas, "acme", export_id)
    row = await row_of(database, "acme", export_id)
    assert row is not None
    assert row.status == "failed"
    async with saas_worker(saas):
        await generate(saas, "acme", export_id, key="replayed")
    row = await row_of(database, "acme", export_id)
    assert row is not None
    assert row.status == "completed"


# Links.


async def link(database: Database, tenant: str, export_id: UUID) -> str:
    with within(database, tenant):
        async with tenant_session() as session:
            return await export_link(session, export_id)


@pytest.mark.usefixtures("worker")
async def test_a_link_opens_the_tenants_own_file_once_it_is_there(
    saas: Client, database: Database
) -> None:
    export_id = await ask(database, "acme")
    with pytest.raises(ExportNotReady):
        await link(database, "acme", export_id)
    await generate(saas, "acme", export_id)
    token = (await link(database, "acme", export_id)).rsplit("/", 1)[1]
    target = read_link(token, datetime.now(UTC))
    assert target == LinkTarget(tenant_id="acme", path=f"acme/exports/{export_id}.csv")
    with pytest.raises(ExportNotFound):
        await link(database, "globex", export_id)


async def expire(database: Database, tenant: str, *, export_id: UUID) -> None:
    with within(database, tenant):
        async with tenant_session() as session:
            past = datetime.now(UTC) - timedelta(hours=1)
            await session.execute(
                update(Export).where(Export.id == export_id).values(expires_at=past)
            )


@pytest.mark.usefixtures("customers")
async def test_an_expired_export_goes_with_its_file_and_others_stay(
    saas: Client, database: Database, storage: Path
) -> None:
    written = [await ask(database, "acme") for _ in range(4)]
    unwritten = await ask(database, "acme")
    foreign = await ask(database, "globex")
    async with saas_worker(saas):
        await asyncio.gather(*(generate(saas, "acme", export_id) for export_id in written))
        await generate(saas, "globex", foreign)
    for export_id in (*written[:3], unwritten):
        await expire(database, "acme", export_id=export_id)
    await expire(database, "globex", export_id=foreign)
    with pytest.raises(ExportNotFound):
        await link(database, "acme", written[0])
    # Already deleted: as after an attempt that died before its commit.
    (storage / "acme" / "exports" / f"{written[1]}.csv").unlink()

    async with saas_worker(saas, Cleanup(Batches(rows_with_objects=2)).delete_expired):
        report = await saas.execute_workflow(
            CleanUpExpired.run,
            CleanUpExpiredInput(tenant_id="acme"),
            id="acme/cleanup.expired/1",
            task_queue=Queue.BULK,
        )
    assert report.deleted["exports"] == 4
    assert files(storage) == {str(written[3]), str(foreign)}
    with pytest.raises(ObjectNotFound):
        await file_of(database, "acme", f"{written[0]}.csv")
    assert await row_of(database, "acme", written[0]) is None


@pytest.mark.usefixtures("worker")
async def test_an_export_that_expires_while_it_is_written_leaves_no_file(
    saas: Client, database: Database, database_urls: DatabaseUrls, storage: Path
) -> None:
    export_id = await ask(database, "acme")
    with gate(database_urls.owner, "update of status on exports"):
        generating = asyncio.create_task(generate(saas, "acme", export_id))
        await until_waiting(database_urls.superuser)
        assert files(storage)
        with within(database, "acme"):
            async with tenant_session() as session:
                await session.execute(text("delete from exports where tenant_id = 'acme'"))
    with pytest.raises(WorkflowFailureError) as caught:
        await generating
    assert failure_of(caught.value) == "ExportNotFound"
    assert not files(storage)


async def test_a_page_is_read_from_the_primary_key_behind_the_one_before(
    database: Database,
) -> None:
    """Holds even if the planner has no statistics and all rows begin alike."""
    rows = {"time_hour": HOUR, "carrier": "AC", "origin": "A", "destination": "B", "distance": 1}
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(
                insert(UsageEvent).values(cancelled=False),
                [{**rows, "flight": number} for number in range(5_000)],
            )
        async with tenant_session() as session:
            page = DATASETS[ExportDataset.USAGE_EVENTS]._page([HOUR, "AC", 1_000], 100)
            bound = page.compile(
                dialect=database.tenant_engine.dialect, compile_kwargs={"literal_binds": True}
            )
            # As the session's criteria add it.
            statement = str(bound).replace("WHERE", "WHERE tenant_id = 'acme' AND")
            await session.execute(_IN_ORDER)
            plan = await session.execute(text(f"explain (analyze) {statement}"))
            lines = "\n".join(plan.scalars())
    assert "ROW(time_hour, carrier, flight) > ROW(" in lines
    assert "Index Scan using pk_usage_events" in lines
    assert "Sort" not in lines
