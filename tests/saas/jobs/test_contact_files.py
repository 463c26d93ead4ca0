"""Contact files as users send them, and the result of importing each."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from temporalio.client import Client

from activities.uploads import EncodingUnknown
from saas.database.contacts import Contact, Import
from saas.database.exports import ExportDataset, ExportFormat
from saas.queues import Queue
from saas.requests.exports import begin_export
from saas.services.contact_columns import EXPORT_MARK
from saas.services.object_storage import current_storage, object_path
from temporal_tenancy.core.csv_safety import original_cell
from temporal_tenancy.outbox import OutboxMessage
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.contact_files import (
    begin,
    contacts_of,
    counts,
    error_file,
    error_rows,
    kept,
    run,
    start,
)
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows.exports import GenerateExport, GenerateExportInput

FILES = Path(__file__).parent / "contact_files"


def sent(name: str) -> bytes:
    return (FILES / name).read_bytes()


def told(contact: Contact) -> tuple[Any, ...]:
    known = contact.email, contact.name, contact.phone, contact.company, contact.country
    return *known, contact.attributes


async def import_and_tell(
    client: Client, database: Database, content: bytes | str, **options: Any
) -> tuple[Import, list[tuple[Any, ...]]]:
    ended = await run(client, database, content, **options)
    return ended, [told(each) for each in await contacts_of(database)]


async def notice_of(database: Database, ended: Import) -> str:
    with within(database, "acme"):
        async with tenant_session() as session:
            query = select(OutboxMessage).where(OutboxMessage.key == f"import-{ended.id}")
            message = (await session.scalars(query)).one()
    return str(message.payload)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


READ: dict[str, list[tuple[Any, ...]]] = {
    "cp1250.csv": [("pl1@acme.test", "Łukasz Żółć", None, None, None, {})],
    "sep_semicolon.csv": [
        ("sep1@acme.test", "Ana", None, None, None, {}),
        ("sep2@acme.test", "Bo", None, None, None, {}),
    ],
    "quoted_comma_header.csv": [
        ("del1@acme.test", "Ana", None, None, None, {"notes, remarks": "x, y"})
    ],
    "mailchimp.csv": [
        (
            "hdr1@acme.test",
            "Ana Li",
            "1",
            None,
            None,
            {"First Name": "Ana", "Last Name": "Li"},
        )
    ],
    "double_bom.csv": [("hdr3@acme.test", "Ana", None, None, None, {})],
    "short_rows.csv": [
        ("rag1@acme.test", "Ana", None, None, None, {}),
        ("rag2@acme.test", "Bo", "1", "Acme", None, {}),
        ("rag3@acme.test", None, None, None, None, {}),
    ],
    "blank_rows.csv": [("rag6@acme.test", "Ana", None, None, None, {})],
    "space_quote.csv": [
        ("sq1@acme.test", "Smith, John", None, "Acme", None, {}),
        ("sq2@acme.test", "Jane", None, "Acme", None, {}),
        ("sq3@acme.test", "O", None, "Acme", None, {}),
    ],
    "errors_corrected.csv": [("rt2@acme.test", "Bo", "+1 555 0100", "=Sum Ltd", None, {})],
}


@pytest.mark.usefixtures("importing_worker")
async def test_each_file_is_read_as_what_it_is(saas: Client, database: Database) -> None:
    expected: list[tuple[Any, ...]] = []
    for name, contacts in READ.items():
        ended = await run(saas, database, sent(name))
        rows = len(contacts)
        assert counts(ended) == ("completed", rows, rows, 0, 0), name
        expected += contacts
    assert [told(each) for each in await contacts_of(database)] == sorted(expected)


@pytest.mark.usefixtures("importing_worker")
async def test_one_bad_byte_is_one_rejected_row(saas: Client, database: Database) -> None:
    content = sent("one_bad_byte.csv")
    ended, contacts = await import_and_tell(saas, database, content)
    rows = content.count(b"\n") - 1
    assert (ended.encoding, ended.rejected, ended.rows) == ("utf-8", 1, rows)
    assert {name for _, name, *_ in contacts} >= {"José Müller 0", "José Müller 38"}
    assert not any("Ã" in name or "�" in name for _, name, *_ in contacts)
    [_, bad] = await error_rows(database, ended)
    assert bad[1] == str(content[: content.index(b"\xe9 ")].count(b"\n") + 1)
    assert bad[2:] == ["it has bytes that are not utf-8 (0xE9)", "encbad@acme.test", bad[4]]
    assert "�" in bad[4]


@pytest.mark.usefixtures("importing_worker")
async def test_a_file_cut_within_its_last_character_has_one_row_that_cannot_be_read(
    saas: Client, database: Database
) -> None:
    whole = "email,name\na@acme.test,Zoë\nb@acme.test,Zoë".encode()
    ended, contacts = await import_and_tell(saas, database, whole[:-1])
    assert counts(ended) == ("completed", 2, 1, 0, 1)
    assert contacts == [("a@acme.test", "Zoë", None, None, None, {})]


@pytest.mark.usefixtures("importing_worker")
async def test_an_encoding_that_is_not_sure_is_a_question_and_goes_on_with_its_answer(
    saas: Client, database: Database
) -> None:
    content = "email,name\na@acme.test,Muñoz\nb@acme.test,Zoë\n".encode("windows-1252")
    asked = await run(saas, database, content)
    assert counts(asked) == ("failed", 0, 0, 0, 0)
    assert (asked.error_type, asked.encoding_by) == ("EncodingUnsure", "unsure")
    samples = {each["encoding"]: each["sample"] for each in asked.candidates}
    assert samples["windows-1252"] == ["a@acme.test,Muñoz", "b@acme.test,Zoë"]
    assert len(set(map(tuple, samples.values()))) == len(samples) > 1
    assert '"--encoding windows-' in (asked.error or "")
    assert "Muñoz" in (asked.error or "")
    assert await contacts_of(database) == []
    dry = await run(saas, database, content, encoding="latin1", dry_run=True)
    assert counts(dry) == ("completed", 2, 2, 0, 0)
    ended, contacts = await import_and_tell(saas, database, content, encoding="windows-1252")
    assert counts(ended) == ("completed", 2, 2, 0, 0)
    assert [name for _, name, *_ in contacts] == ["Muñoz", "Zoë"]
    assert "was read as windows-1252" in await notice_of(database, ended)


async def test_an_encoding_that_there_is_not_keeps_nothing(
    database: Database, two_airlines: None, storage_folder: Path
) -> None:
    for named in ("klingon", lambda: "zip"):
        with pytest.raises(EncodingUnknown, match="Did you mean"):
            await begin(database, "email\n", encoding=named)
    assert files_in(storage_folder) == []
    with within(database, "acme"):
        async with tenant_session() as session:
            assert (await session.scalars(select(Import))).all() == []


@pytest.mark.usefixtures("importing_worker")
@pytest.mark.parametrize("batch_size", [100, 5_000])
async def test_addresses_that_look_alike_are_one_contact(
    saas: Client, database: Database, batch_size: int
) -> None:
    content = sent("zwsp.csv")
    rows = content.count(b"\n") - 1
    ended = await run(saas, database, content, batch_size=batch_size)
    assert counts(ended) == ("completed", rows, 1, rows - 1, 0)
    dry = await run(saas, database, content, dry_run=True)
    assert counts(dry) == ("completed", rows, 0, rows, 0)
    [contact] = await contacts_of(database)
    assert contact.email == "inv1@acme.test"


@pytest.mark.usefixtures("importing_worker")
async def test_what_is_no_csv_is_called_by_its_name(saas: Client, database: Database) -> None:
    ended = await run(saas, database, sent("book.csv"))
    assert (ended.status, ended.rows, ended.encoding_by) == ("failed", 0, "bytes")
    assert "the file is a workbook (Excel), not a CSV file" in (ended.error or "")
    assert "save the sheet with the contacts as CSV" in (ended.error or "")


@pytest.mark.usefixtures("importing_worker")
async def test_no_control_character_of_a_file_gets_out(saas: Client, database: Database) -> None:
    files = [
        sent("esc.csv"),
        sent("esc.csv").replace(b"email", b"name"),
        b"\x1b[2J,name\nx,y\n",
        b"email,name\n\x1b]0;owned\x07@acme.test,\x1b[2J\nx\xc2\x9b31m,y\n",
        "email,name\na@acme.test,Muñoz \x1b[2J Zoë\n".encode("windows-1252"),
    ]
    for content in files:
        ended = await run(saas, database, content)
        assert ended.status == "failed" or ended.rejected == 2
        sentences = [ended.error or "", await notice_of(database, ended)]
        sentences += [line for each in ended.candidates for line in each["sample"]]
        if ended.error_file:
            sentences += [row[2] for row in await error_rows(database, ended)]
        for sentence in sentences:
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", sentence), ascii(sentence)


LONG = "email,note\n" + 'a@acme.test,"' + "x@acme.test,row\n" * 13_000 + '"\nb@acme.test,ok\n'


@pytest.mark.usefixtures("importing_worker")
@pytest.mark.parametrize(
    ("content", "rows", "reason"),
    [
        (LONG, 2, "it is longer than 131,072 characters"),
        (f"email,note\na@acme.test,{'x' * 140_000}\nb@acme.test,ok\n", 2, "it is longer than"),
        ('email,note\nb@acme.test,ok\na@acme.test,"x\nc@acme.test,y\n', 2, "is not closed"),
    ],
)
async def test_what_is_in_a_quoted_cell_is_never_a_row(
    saas: Client, database: Database, content: str, rows: int, reason: str
) -> None:
    ended, contacts = await import_and_tell(saas, database, content)
    assert counts(ended) == ("completed", rows, 1, 0, 1)
    assert contacts == [("b@acme.test", None, None, None, None, {"note": "ok"})]
    [_, bad] = await error_rows(database, ended)
    assert reason in bad[2]
    assert bad[3].startswith("a@acme.test,")


async def exported(client: Client, database: Database, tenant: str = "acme") -> bytes:
    with within(database, tenant):
        async with tenant_session() as session:
            export_id = await begin_export(session, ExportDataset.CONTACTS, ExportFormat.CSV)
    async with saas_worker(client, task_queue=Queue.BULK):
        await client.execute_workflow(
            GenerateExport.run,
            GenerateExportInput(tenant_id=tenant, export_id=export_id),
            id=f"{tenant}/exports.generate/{export_id}",
            task_queue=Queue.BULK,
        )
    with within(database, tenant):
        pieces = current_storage().open(object_path("exports", f"{export_id}.csv"))
        return b"".join([piece async for piece in pieces])


ODD = ["+49 30 1234567", "'+49", "''=x", "=1+1", " a ", "x;=y", 'q"q', "two\r\nlines", "-", "\t=x"]


@pytest.mark.usefixtures("importing_worker")
async def test_what_is_exported_and_imported_again_is_as_it_was(
    saas: Client, database: Database
) -> None:
    await run(saas, database, sent("phones.csv"))
    with within(database, "acme"):
        async with tenant_session() as session:
            rows = [
                {
                    "email": f"odd{number}@straße.example",
                    "name": odd,
                    "phone": odd,
                    "attributes": {"=note": odd, "nested": {"a": [1, None, odd]}},
                    "created_at": datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
                }
                for number, odd in enumerate(ODD)
            ]
            await session.execute(insert(Contact), rows)
    before = [
        (told(each), each.created_at, each.updated_at) for each in await contacts_of(database)
    ]
    content = await exported(saas, database)
    assert content.splitlines()[0].endswith(f'"{EXPORT_MARK}"'.encode())
    ended = await run(saas, database, content)
    assert counts(ended) == ("completed", len(before), 0, len(before), 0)
    after = [(told(each), each.created_at, each.updated_at) for each in await contacts_of(database)]
    assert after == before
    assert await exported(saas, database) == content
    moved = await begin(database, content, tenant="globex")
    await (await start(saas, moved, tenant="globex")).result()
    there = await contacts_of(database, "globex")
    assert [(told(each), each.created_at) for each in there] == [each[:2] for each in before]


@pytest.mark.usefixtures("importing_worker")
async def test_a_strangers_file_is_not_read_as_one_of_ours(
    saas: Client, database: Database
) -> None:
    content = (
        "email,phone,attributes,created_at,row\n"
        """a@acme.test,'+49 30,"{""a"": 1}",2001-01-01T00:00:00+00:00,7\n"""
    )
    _, contacts = await import_and_tell(saas, database, content)
    others = {"attributes": '{"a": 1}', "created_at": "2001-01-01T00:00:00+00:00", "row": "7"}
    assert contacts == [("a@acme.test", None, "'+49 30", None, None, others)]


@pytest.mark.usefixtures("importing_worker")
async def test_a_corrected_error_file_imports_as_if_it_had_been_right_at_first(
    saas: Client, database: Database
) -> None:
    first = await run(saas, database, "email,name,'=vip\nbroken,'=x,+1\nworse,,a;=b\n")
    content = await error_file(database, first)
    second = await run(saas, database, content.replace("worse", "w@acme.test"))
    assert counts(second) == ("completed", 2, 1, 0, 1)
    assert await error_rows(database, second) == [
        row if number == 0 else ["1", "2", *row[2:]]
        for number, row in enumerate((await error_rows(database, first))[:2])
    ]
    again = await error_file(database, second)
    third, contacts = await import_and_tell(saas, database, again.replace("broken", "b@acme.test"))
    assert counts(third) == ("completed", 1, 1, 0, 0)
    assert contacts == [
        ("b@acme.test", "'=x", None, None, None, {"'=vip": "+1"}),
        ("w@acme.test", None, None, None, None, {"'=vip": "a;=b"}),
    ]
    assert original_cell("''=x") == "'=x"


@pytest.mark.usefixtures("importing_worker")
async def test_a_corrected_row_of_an_export_is_one_of_an_export(
    saas: Client, database: Database
) -> None:
    await run(saas, database, "email,phone,vip\na@acme.test,+1,=yes\n")
    broken = (await exported(saas, database)).replace(b"a@acme.test", b"nobody")
    first = await run(saas, database, broken)
    assert counts(first) == ("completed", 1, 0, 0, 1)
    corrected = (await error_file(database, first)).replace("nobody", "a@acme.test")
    second, contacts = await import_and_tell(saas, database, corrected)
    assert counts(second) == ("completed", 1, 0, 1, 0)
    assert contacts == [("a@acme.test", None, "+1", None, None, {"vip": "=yes"})]


@pytest.mark.usefixtures("importing_worker")
@pytest.mark.parametrize("batch_size", [100, 5_000])
async def test_a_contact_of_an_earlier_spelling_is_met_and_respelled(
    saas: Client, database: Database, batch_size: int
) -> None:
    old = ["a@xn--strae-oqa.example", "jose\u0301@b.example", "c@straße.example"]
    both = ["d@xn--strae-oqa.example", "d@straße.example"]
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(insert(Contact), [{"email": each} for each in old + both])
    # Enough characters to try both ways of writing.
    more = "".join(f"{number}@acme.test,x\n" for number in range(1_500))
    content = (
        "email,name\nA@STRASSE.example,other\na@Straße.example,Ann\nJosé@b.example,Jo\n"
        f"c@xn--strae-oqa.example,Cy\nd@straße.example,Di\n{more}"
    )
    expected = ("completed", 1_505, 1_501, 4, 0)
    dry = await run(saas, database, content, dry_run=True, batch_size=batch_size)
    assert counts(dry) == expected
    ended, contacts = await import_and_tell(saas, database, content, batch_size=batch_size)
    assert counts(ended) == expected
    assert {email: name for email, name, *_ in contacts if not email[0].isdigit()} == {
        "a@strasse.example": "other",
        "a@straße.example": "Ann",
        "josé@b.example": "Jo",
        "c@straße.example": "Cy",
        "d@straße.example": "Di",
        "d@xn--strae-oqa.example": None,
    }


async def test_an_import_that_an_earlier_release_began_goes_on(
    saas: Client, database: Database, two_airlines: None
) -> None:
    import_id = await begin(database, "email;name\na@acme.test;Ann\n")
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(update(Import).values(reading=None, delimiter=None))
    async with saas_worker(saas, task_queue=Queue.DEFAULT):
        await (await start(saas, import_id)).result()
    ended = await kept(database, import_id)
    assert (counts(ended), ended.encoding_by) == (("completed", 1, 1, 0, 0), None)


@pytest.mark.usefixtures("importing_worker")
async def test_a_row_that_says_nothing_new_leaves_its_contact_alone(
    saas: Client, database: Database
) -> None:
    content = "email,name,vip\na@acme.test,Ann,yes\n"
    await run(saas, database, content)
    with within(database, "acme"):
        async with tenant_session() as session:
            await session.execute(update(Contact).values(updated_at=Contact.created_at))
    assert counts(await run(saas, database, content)) == ("completed", 1, 0, 1, 0)
    with within(database, "acme"):
        async with tenant_session() as session:
            unchanged = await session.scalars(select(Contact.updated_at == Contact.created_at))
            assert unchanged.all() == [True]
