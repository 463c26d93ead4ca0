"""The datasets that a tenant can export: their columns, and their rows in pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, select, text, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from activities.limits import LARGE
from saas.database.contacts import Contact
from saas.database.exports import ExportDataset
from saas.database.tables import Invoice, UsageEvent
from saas.services.contact_columns import EXPORT_MARK
from saas.services.tables import Row, Schema, ValueType
from temporal_tenancy import tenant_session

# If many rows share the key's first column, or statistics are missing, the planner underestimates
# the remaining rows, and would read and sort all of them for each page.
_IN_ORDER: Final = text("select set_config('enable_sort', 'off', true)")


@dataclass(frozen=True)
class Dataset:
    """Some columns of a table."""

    columns: dict[InstrumentedAttribute[Any], ValueType]
    key: Sequence[InstrumentedAttribute[Any]]  # columns that are unique among a tenant's rows
    mark: str | None = None  # a CSV column by which an import recognises our own export

    @property
    def schema(self) -> Schema:
        """The columns' names and types, in order."""
        return {column.key: kind for column, kind in self.columns.items()}

    async def pages(self, size: int) -> AsyncIterator[Sequence[Row]]:
        """Yields the current tenant's rows in key order, in pages of up to `size`.

        Each page is its own transaction, so that a long export does not block others. A row written
        during the export is included if its key is still ahead.
        """
        after: Row | None = None
        while True:
            async with tenant_session(limits=LARGE) as session:
                await session.execute(_IN_ORDER)
                rows = (await session.execute(self._page(after, size))).all()
            if not rows:
                return
            names = [column.key for column in self.columns]
            after = [rows[-1][names.index(column.key)] for column in self.key]
            yield [list(map(_value, row)) for row in rows]
            if len(rows) < size:
                return

    # Any stands for a Select of a variable number of columns.
    def _page(self, after: Row | None, size: int) -> Any:
        page = select(*self.columns).order_by(*self.key).limit(size)
        return page if after is None else page.where(_behind(self.key, after))


def _behind(key: Sequence[InstrumentedAttribute[Any]], after: Row) -> ColumnElement[bool]:
    return tuple_(*key) > tuple_(*after)


def _value(value: object) -> object:
    """Returns a value as files hold it: a type that they lack becomes text."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


DATASETS: Final = {
    ExportDataset.CONTACTS: Dataset(
        {
            Contact.email: ValueType.TEXT,
            Contact.name: ValueType.TEXT,
            Contact.phone: ValueType.TEXT,
            Contact.company: ValueType.TEXT,
            Contact.country: ValueType.TEXT,
            Contact.attributes: ValueType.TEXT,  # a JSON object
            Contact.created_at: ValueType.TIME,
            Contact.updated_at: ValueType.TIME,
        },
        key=[Contact.email],
        mark=EXPORT_MARK,
    ),
    ExportDataset.INVOICES: Dataset(
        {
            Invoice.period: ValueType.TEXT,
            Invoice.currency: ValueType.TEXT,
            Invoice.total_cents: ValueType.INTEGER,
            Invoice.usage_events: ValueType.INTEGER,
            Invoice.period_start: ValueType.TIME,
            Invoice.period_end: ValueType.TIME,
            Invoice.issued_at: ValueType.TIME,
        },
        key=[Invoice.period],
    ),
    ExportDataset.USAGE_EVENTS: Dataset(
        {
            UsageEvent.time_hour: ValueType.TIME,
            UsageEvent.carrier: ValueType.TEXT,
            UsageEvent.flight: ValueType.INTEGER,
            UsageEvent.origin: ValueType.TEXT,
            UsageEvent.destination: ValueType.TEXT,
            UsageEvent.tail_number: ValueType.TEXT,
            UsageEvent.distance: ValueType.INTEGER,
            UsageEvent.air_time: ValueType.INTEGER,
            UsageEvent.departure_delay: ValueType.INTEGER,
            UsageEvent.cancelled: ValueType.BOOLEAN,
        },
        key=[UsageEvent.time_hour, UsageEvent.carrier, UsageEvent.flight],
    ),
}
