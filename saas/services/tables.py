"""Rows as files that people and programs read: CSV and Parquet, piece by piece."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow
from pyarrow import parquet

from saas.services.csv_safety import quoted_rows, safe_cell

Row = Sequence[Any]  # a value a column, of whatever type the column has
Pages = AsyncIterator[Sequence[Row]]

# What a database's values become.
TEXT: Final = pyarrow.string()
INTEGER: Final = pyarrow.int64()
BOOLEAN: Final = pyarrow.bool_()
TIME: Final = pyarrow.timestamp("us", tz="UTC")


async def as_csv(
    schema: pyarrow.Schema, pages: Pages, *, mark: str | None = None
) -> AsyncIterator[bytes]:
    """Yields a header line and a line a row: UTF-8, RFC 4180, every cell quoted, a piece a page.

    Text that a spreadsheet would take for a formula is made harmless by `safe_cell`; numbers stay
    numbers, times are ISO 8601 in UTC, and what is not known is empty. `mark` is the name of one
    more column at the end, with nothing in it.
    """
    marks = [] if mark is None else [mark]
    yield quoted_rows([[*schema.names, *marks]]).encode()
    async for page in pages:
        columns = [
            [None if value is None else shown(value) for value in column]
            if (shown := _SHOWN.get(field.type))
            else column
            for column, field in zip(zip(*page, strict=True), schema, strict=True)
        ]
        columns += [[None] * len(page) for _ in marks]
        yield quoted_rows(zip(*columns, strict=True)).encode()


async def as_parquet(schema: pyarrow.Schema, pages: Pages) -> AsyncIterator[bytes]:
    """Yields a Parquet file, in which each page is a row group, compressed by Zstandard."""
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        async for page in pages:
            columns = [
                pyarrow.array(column, type=field.type)
                for column, field in zip(zip(*page, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _shown_boolean(value: bool) -> str:
    return "true" if value else "false"


def _shown_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


_SHOWN: Final[dict[pyarrow.DataType, Callable[[Any], str]]] = {
    TEXT: safe_cell,
    BOOLEAN: _shown_boolean,
    TIME: _shown_time,
}
"""How a value of a column's type is written; others are as they are."""


class _Sink(io.RawIOBase):
    """A file that is taken away while it is written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # a buffer of any kind
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        """What has been written since this was last asked."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
