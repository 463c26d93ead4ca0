"""Rows as files, as a spreadsheet and a program read them."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone

import pyarrow
from pyarrow import parquet

from saas.services.parquet_files import as_parquet
from saas.services.tables import Row, Schema, ValueType, as_csv

SCHEMA: Schema = {
    "name": ValueType.TEXT,
    "number": ValueType.INTEGER,
    "flag": ValueType.BOOLEAN,
    "at": ValueType.TIME,
}
COLUMNS = pyarrow.schema(
    [
        ("name", pyarrow.string()),
        ("number", pyarrow.int64()),
        ("flag", pyarrow.bool_()),
        ("at", pyarrow.timestamp("us", tz="UTC")),
    ]
)
AT = datetime(2013, 4, 1, 3, tzinfo=timezone(timedelta(hours=-4)))
ROWS: list[Row] = [
    ["=1+1", -5, True, AT],
    ['a "quoted", text\r\nof two lines', 0, False, AT],
    [None, None, None, None],
    ["José 東京", 2**60, True, AT],
]


async def pages(*pages: Sequence[Row]) -> AsyncIterator[Sequence[Row]]:
    for page in pages:
        yield page


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_a_csv_is_harmless_text_and_plain_numbers() -> None:
    text = (await whole(as_csv(SCHEMA, pages(ROWS[:2], ROWS[2:])))).decode()
    assert text.startswith(
        '"name","number","flag","at"\r\n"\'=1+1","-5","true","2013-04-01T07:00:00+00:00"\r\n'
    )
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[2][0] == ROWS[1][0]
    assert read[3] == ["", "", "", ""]
    assert read[4][:2] == ["José 東京", str(2**60)]
    assert len(read) == 5


async def test_a_parquet_file_has_the_types_and_a_row_group_a_page() -> None:
    content = await whole(as_parquet(SCHEMA, pages(ROWS[:2], ROWS[2:])))
    file = parquet.ParquetFile(io.BytesIO(content))
    assert file.metadata.num_row_groups == 2
    table = file.read()
    assert table.schema.equals(COLUMNS)
    assert table.column("name").to_pylist() == [row[0] for row in ROWS]
    assert table.column("number").to_pylist() == [-5, 0, None, 2**60]
    assert table.column("at").to_pylist()[0] == AT.astimezone(UTC)


async def test_a_file_without_rows_has_its_columns() -> None:
    assert await whole(as_csv(SCHEMA, pages())) == b'"name","number","flag","at"\r\n'
    empty = parquet.read_table(io.BytesIO(await whole(as_parquet(SCHEMA, pages()))))
    assert (empty.num_rows, empty.column_names) == (0, COLUMNS.names)


async def test_pieces_come_page_by_page() -> None:
    asked = 0

    async def counting() -> AsyncIterator[Sequence[Row]]:
        nonlocal asked
        for _ in range(3):
            asked += 1
            yield ROWS

    for writer, before in ((as_csv, 1), (as_parquet, 0)):
        asked = 0
        at_each_piece = [asked async for _ in writer(SCHEMA, counting())]
        assert at_each_piece[before : before + 3] == [1, 2, 3]
