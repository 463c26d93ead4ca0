"""Writes rows as CSV or Parquet files, chunk by chunk."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow
from pyarrow import parquet

from saas.services.csv_safety import quoted_rows, safe_cell

Row = Sequence[Any]  # one value per column, of the column's type
Pages = AsyncIterator[Sequence[Row]]

# The column types of a file.
TEXT: Final = pyarrow.string()
INTEGER: Final = pyarrow.int64()
BOOLEAN: Final = pyarrow.bool_()
TIME: Final = pyarrow.timestamp("us", tz="UTC")


async def as_csv(
    schema: pyarrow.Schema, pages: Pages, *, mark: str | None = None
) -> AsyncIterator[bytes]:
    """Yields a header line, then one chunk per page: UTF-8, RFC 4180, every cell quoted.

    `safe_cell` neutralises text that a spreadsheet would take for a formula; numbers stay numbers,
    times are ISO 8601 in UTC, and None is empty. `mark` is the name of an additional last column,
    which is empty.
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
    """Yields a Parquet file with one row group per page, compressed with Zstandard."""
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
"""How CSV shows a value, by column type; values of other types are written as they are."""


class _Sink(io.RawIOBase):
    """A file whose content is taken away while it is being written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # any bytes-like object
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        """Returns the bytes written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
