"""Every CSV that the project writes, with hostile texts: no spreadsheet finds a formula in it."""

from __future__ import annotations

import ast
import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from activities import rejected_rows
from saas.database.contacts import Import, RejectedRow
from saas.services.tables import Row, ValueType, as_csv
from temporal_tenancy.cli.usage import csv_of
from temporal_tenancy.metering import Usage
from temporal_tenancy.metering._table import Used

ROOT: Final = Path(__file__).parents[3]
ROOMS: Final = ("activities", "processes", "saas", "temporal_tenancy", "workflows")
FORMULA: Final = tuple("=+-@＝＋－＠")
SEPARATORS: Final = (",", ";", "\t", "|")

texts = st.one_of(
    st.text(st.sampled_from([*FORMULA, *SEPARATORS, *"'\" \r\n1a\u00a0\ufeff\x0b"]), max_size=12),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from(["=1+1", '=HYPERLINK("http://e.example","pay")', "-1+cmd|' /C calc'!A0"]),
)


def exported(cells: Sequence[str]) -> str:
    async def pages() -> AsyncIterator[Sequence[Row]]:
        yield [[cell, -5] for cell in cells]

    async def written() -> str:
        schema = {"name": ValueType.TEXT, "number": ValueType.INTEGER}
        return b"".join([part async for part in as_csv(schema, pages())]).decode()

    return asyncio.run(written())


def rejected(cells: Sequence[str]) -> str:
    """The error file of an import, whose header is the tenant's too."""
    row = RejectedRow(row=1, line=2, reason="the e-mail is missing.", cells=[*cells])
    pages = [[row], []]

    async def page(imported: Import, after: int) -> Sequence[RejectedRow]:
        return pages.pop(0)

    async def written() -> str:
        imported = Import(columns=None)
        return b"".join([part async for part in rejected_rows._pages(imported)]).decode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejected_rows, "_page", page)
        return asyncio.run(written())


def metered(cells: Sequence[str]) -> str:
    return csv_of("tenant", [Usage(cell, Used(1.5, 0.0, 1, 1)) for cell in cells])


WRITERS: Final[dict[str, Callable[[Sequence[str]], str]]] = {
    "exports": exported,
    "rejected rows": rejected,
    "usage --csv": metered,
}


def cells_in(written: str, separator: str) -> Iterator[str]:
    """Returns the cells for a reader that splits there, also for one that ignores quotes."""
    for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
        yield from row
    if separator != ",":  # the quotes work where the separator is ours
        yield from re.split(rf"[\r\n{re.escape(separator)}]", written)


@pytest.mark.parametrize("writer", WRITERS)
@given(cells=st.lists(texts, min_size=1, max_size=4), separator=st.sampled_from(SEPARATORS))
@example(cells=["=1+1", "bad;=1+2;x", "bad\n=1+2", 'b\t "=1'], separator=";")
def test_no_text_is_a_formula(writer: str, cells: list[str], separator: str) -> None:
    for cell in cells_in(WRITERS[writer](cells), separator):
        if not re.fullmatch(r"\s*\"?-5\"?\s*", cell):  # our number
            assert not cell.strip().lstrip('"').lstrip().startswith(FORMULA), cell


def test_nothing_else_writes_csv() -> None:
    """A new writer is added to `WRITERS`; contacts are copied into PostgreSQL."""
    found = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if name in ("DictWriter", "quoted_rows", "to_csv", "write_csv") or (
                name == "writer"
                and isinstance(node, ast.Attribute)
                and ast.unparse(node) == "csv.writer"
            ):
                found.add(str(path.relative_to(ROOT)))
    assert found == {
        "activities/contact_batches.py",
        "activities/rejected_rows.py",
        "saas/services/tables.py",
        "temporal_tenancy/cli/usage.py",
        "temporal_tenancy/core/csv_safety.py",
    }


def test_what_ran_outside_any_job_has_a_name() -> None:
    row = csv_of("job", [Usage("", Used(1.5, 0.0, 1, 1))]).splitlines()[1]
    assert row == "(no job),1.5,0.0,1,1"
