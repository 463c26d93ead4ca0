"""Lists over HTTP: their parameters, and the format of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from processes.web.refusals import WebRefusal
from saas.database.paging import CURSOR_MAX_CHARACTERS, PAGE_ROWS, PAGE_ROWS_MAX, Page

Item = TypeVar("Item", bound=BaseModel)
Row = TypeVar("Row")

After = Annotated[
    str | None,
    Query(max_length=CURSOR_MAX_CHARACTERS, description='The "next" of the page before.'),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX, description="The most items of a page.")]

LIMIT = PAGE_ROWS


class ItemPage(BaseModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    next: str | None  # pass it as "after" for the next page; null: this is the last one


def page_of(page: Page[Row], item: Callable[[Row], Item]) -> ItemPage[Item]:
    """Returns a page with each row as an item."""
    return ItemPage(items=[item(row) for row in page.rows], next=page.next)


def identified(text: str, unknown: type[WebRefusal]) -> UUID:
    """Returns the id in a path; raises `unknown` if it is malformed, as for any unknown id."""
    try:
        return UUID(text)
    except ValueError:
        raise unknown from None
