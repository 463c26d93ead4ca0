"""Lists in pages: a page begins after the last row of the page before it (keyset paging).

A cursor is that row's key. Rows that are added meanwhile move no other row to another page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from saas.refusals import Refused
from temporal_tenancy import TenantOwned, current_tenant

PAGE_ROWS: Final = 20
PAGE_ROWS_MAX: Final = 100
CURSOR_MAX_CHARACTERS: Final = 2_000
_DIGEST_BYTES: Final = 9

# Row-level security hides the statistics of some keys, and the planner would sort all of a tenant's
# rows for each page.
_IN_ORDER: Final = text("select set_config('enable_sort', 'off', true)")

Model = TypeVar("Model", bound=TenantOwned)
Row = TypeVar("Row")


class CursorInvalid(Refused):
    """The cursor is not one of this list."""

    def __init__(self) -> None:
        super().__init__(
            "the cursor is not one of this list. Take it from the page before, or leave it out."
        )


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a list."""

    rows: Sequence[Row]
    next: str | None  # the cursor of the next page; None: this is the last one


@dataclass(frozen=True)
class Cursors:
    """The cursors of one list of the current tenant.

    A cursor carries a digest of the tenant, the list and its filters, so that one of another list
    is refused. It protects nothing: row-level security does.
    """

    name: str
    filters: Mapping[str, str]

    def made(self, key: Sequence[object]) -> str:
        """Returns the cursor of the row with this key, whose values are text or numbers."""
        body = json.dumps(key).encode()
        return base64.urlsafe_b64encode(self._digest(body) + body).decode().rstrip("=")

    def read(self, cursor: str) -> list[Any]:
        """Returns the key that `made` was given; raises `CursorInvalid`."""
        try:
            if len(cursor) > CURSOR_MAX_CHARACTERS:
                raise CursorInvalid
            padded = cursor + "=" * (-len(cursor) % 4)
            content = base64.b64decode(padded, altchars=b"-_", validate=True)
            digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if digest != self._digest(body):
                raise CursorInvalid
            key = json.loads(body)
        except (ValueError, RecursionError):
            raise CursorInvalid from None
        if not isinstance(key, list):
            raise CursorInvalid
        return key

    def _digest(self, body: bytes) -> bytes:
        bound = json.dumps([current_tenant(), self.name, sorted(self.filters.items())]).encode()
        return hashlib.blake2b(
            body, key=hashlib.blake2b(bound).digest(), digest_size=_DIGEST_BYTES
        ).digest()


@dataclass(frozen=True)
class Listing(Generic[Model]):
    """A tenant's rows of a table, in the order of a unique key that does not change."""

    name: str
    model: type[Model]
    key: Sequence[InstrumentedAttribute[Any]]  # of text, UUIDs or dates
    descending: bool = True  # the newest first, where the key ascends with time
    where: Sequence[ColumnElement[bool]] = ()

    async def page(
        self,
        session: AsyncSession,
        *,
        after: str | None = None,
        limit: int = PAGE_ROWS,
        filters: Mapping[InstrumentedAttribute[Any], str] | None = None,
    ) -> Page[Model]:
        """Returns a page of the current tenant's rows.

        Args:
            session: a `tenant_session()`.
            after: the cursor of the page, from `Page.next`; None: the first page.
            limit: the maximum number of rows, 1 to 100.
            filters: columns and the value that a row must have there. A cursor is valid with the
                same filters only.

        Raises:
            CursorInvalid: the cursor is malformed, or another list's or tenant's.
            ValueError: the limit is out of range.
        """
        if not 1 <= limit <= PAGE_ROWS_MAX:
            raise ValueError(f"a limit is 1 to {PAGE_ROWS_MAX}.")
        filters = filters or {}
        cursors = Cursors(self.name, {column.key: value for column, value in filters.items()})
        page = select(self.model).where(*self.where).limit(limit + 1)
        page = page.where(*(column == value for column, value in filters.items()))
        page = page.order_by(*(each.desc() if self.descending else each for each in self.key))
        if after is not None:
            there, here = tuple_(*self.key), tuple_(*self._key(cursors.read(after)))
            page = page.where(there < here if self.descending else there > here)
        await session.execute(_IN_ORDER)
        rows = (await session.scalars(page)).all()
        if len(rows) <= limit:
            return Page(rows, None)
        last = [str(getattr(rows[limit - 1], column.key)) for column in self.key]
        return Page(rows[:limit], cursors.made(last))

    def _key(self, values: list[Any]) -> list[object]:
        if len(values) != len(self.key):
            raise CursorInvalid
        try:
            return [
                _READ[column.type.python_type](value)
                for column, value in zip(self.key, values, strict=True)
            ]
        except (ValueError, TypeError, AttributeError):
            raise CursorInvalid from None


def _text(value: str) -> str:
    value.encode()  # raises for half a surrogate pair
    if "\x00" in value:
        raise ValueError
    return value


_READ: Final[Mapping[type, Callable[[Any], object]]] = {
    str: _text,
    UUID: UUID,
    date: date.fromisoformat,
}
