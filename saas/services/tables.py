"""Rows of a file, and how they are written as CSV, chunk by chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from temporal_tenancy.core import quoted_rows

Row = Sequence[Any]  # one value per column, of the column's type
Pages = AsyncIterator[Sequence[Row]]


class ValueType(Enum):
    """The type of a column's values."""

    TEXT = "text"
    INTEGER = "integer"  # of 64 bits
    BOOLEAN = "boolean"
    TIME = "time"  # aware, to the microsecond


Schema = Mapping[str, ValueType]
"""The columns of a file, by name, in order."""


async def as_csv(schema: Schema, pages: Pages, *, mark: str | None = None) -> AsyncIterator[bytes]:
    """Yields a header line, then one chunk per page: UTF-8, RFC 4180, every cell quoted.

    Text that a spreadsheet would take for a formula is made safe; numbers stay numbers,
    times are ISO 8601 in UTC, and None is empty. `mark` is the name of an additional last column,
    which is empty.
    """
    marks = [] if mark is None else [mark]
    yield quoted_rows([[*schema, *marks]]).encode()
    async for page in pages:
        columns = [
            [None if value is None else shown(value) for value in column]
            if (shown := _SHOWN.get(kind))
            else column
            for column, kind in zip(zip(*page, strict=True), schema.values(), strict=True)
        ]
        columns += [[None] * len(page) for _ in marks]
        yield quoted_rows(zip(*columns, strict=True)).encode()


def _shown_boolean(value: bool) -> str:
    return "true" if value else "false"


def _shown_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


_SHOWN: Final[dict[ValueType, Callable[[Any], str]]] = {
    ValueType.BOOLEAN: _shown_boolean,
    ValueType.TIME: _shown_time,
}
"""How CSV shows a value, by column type; values of other types are written as they are."""
