"""Writes rows as Parquet files; a module of its own, because PyArrow loads slowly."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any, Final

import pyarrow
from pyarrow import parquet

from saas.services.tables import Pages, Schema, ValueType

_TYPES: Final = {
    ValueType.TEXT: pyarrow.string(),
    ValueType.INTEGER: pyarrow.int64(),
    ValueType.BOOLEAN: pyarrow.bool_(),
    ValueType.TIME: pyarrow.timestamp("us", tz="UTC"),
}


async def as_parquet(schema: Schema, pages: Pages) -> AsyncIterator[bytes]:
    """Yields a Parquet file with one row group per page, compressed with Zstandard."""
    columns = pyarrow.schema([(name, _TYPES[kind]) for name, kind in schema.items()])
    sink = _Sink()
    with parquet.ParquetWriter(sink, columns, compression="zstd") as writer:
        async for page in pages:
            arrays = [
                pyarrow.array(values, type=field.type)
                for values, field in zip(zip(*page, strict=True), columns, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=columns))
            yield sink.taken()
    yield sink.taken()


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
