"""Rejected rows of an import: stored with their batch, and written to a file at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from activities.contact_rows import Columns, Rejection
from saas.database.contacts import Import, RejectedRow
from saas.services.contact_columns import ERRORS_MARK
from saas.services.object_storage import current_storage, object_path
from temporal_tenancy import current_tenant, tenant_session
from temporal_tenancy.core import quoted_rows

AREA: Final = "imports"  # in the object storage
PAGE: Final = 500  # rows in memory at once when the file is written
BYTE_ORDER_MARK: Final = "\ufeff"  # without it Excel does not recognise UTF-8

_KEEP: Final = text("""
    insert into import_rejected_rows (tenant_id, import_id, row, line, reason, cells)
    select :tenant, :import_id, row, line, reason, cells
      from unnest(
               cast(:rows as bigint[]), cast(:lines as bigint[]), cast(:reasons as text[]),
               cast(:cells as jsonb[])
           ) as given (row, line, reason, cells)
""")


async def keep_rejected(
    session: AsyncSession, imported: Import, rejected: Sequence[Rejection]
) -> None:
    """Stores a batch's rejected rows; `imported` counts the rows before the batch."""
    if not rejected:
        return
    values = {
        "tenant": current_tenant(),
        "import_id": imported.id,
        "rows": [imported.rows + each.place + 1 for each in rejected],
        "lines": [each.line for each in rejected],
        "reasons": [each.reason for each in rejected],
        "cells": [json.dumps(each.cells) for each in rejected],
    }
    await session.execute(_KEEP, values)


async def write_error_file(imported: Import) -> str | None:
    """Writes all rejected rows as CSV and returns the file's path, or None if there are none.

    Each has its number (the first below the header is 1), the line of the file where it begins,
    the reason, and its own cells. No spreadsheet takes one for a formula; `original_cell` returns
    the cell as it was.
    """
    if not imported.rejected:
        return None
    path = object_path(AREA, f"{imported.id}-rejected.csv")
    await current_storage().put(path, _pages(imported))
    return path


async def _pages(imported: Import) -> AsyncIterator[bytes]:
    own = Columns(imported.columns).header if imported.columns else []
    header = [*ERRORS_MARK, *own]
    yield (BYTE_ORDER_MARK + quoted_rows([header])).encode()
    after = 0
    while rows := await _page(imported, after):
        after = rows[-1].row
        yield quoted_rows([row.row, row.line, row.reason, *row.cells] for row in rows).encode()


async def _page(imported: Import, after: int) -> Sequence[RejectedRow]:
    query = select(RejectedRow).where(RejectedRow.import_id == imported.id, RejectedRow.row > after)
    async with tenant_session() as session:
        found = await session.scalars(query.order_by(RejectedRow.row).limit(PAGE))
        return found.all()
