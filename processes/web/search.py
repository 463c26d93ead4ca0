"""Search in a tenant's contacts and documents."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from processes.web.callers import Authenticated
from processes.web.errors import documented
from processes.web.paging import LIMIT, After, ItemPage, Limit, page_of
from processes.web.records import link_to_contact, link_to_document
from saas.database.search import Found, search_page
from temporal_tenancy import tenant_session

router: Final = APIRouter(tags=["search"])


class ResultLinks(BaseModel):
    """A link to what was found."""

    self: str


class SearchResult(BaseModel):
    """A contact or document that matches."""

    kind: Literal["contact", "document"]
    reference: str  # a contact's id, or a document's kind and key
    title: str
    snippet: str  # plain text around the matching words
    rank: float  # the higher, the better
    links: ResultLinks


@router.get("/search", responses=documented(401))
async def search(
    caller: Authenticated,
    *,
    q: Annotated[str, Query(description='Words, "a phrase", or, -not.', examples=["jfk -lax"])],
    after: After = None,
    limit: Limit = LIMIT,
) -> ItemPage[SearchResult]:
    """Search the tenant's contacts and documents, the best match first.

    All words must match. Contacts and reports are found a moment after they were imported or made.
    """
    async with tenant_session() as session:
        return page_of(await search_page(session, q, after=after, limit=limit), _result)


def _result(found: Found) -> SearchResult:
    kind: Literal["contact", "document"] = "contact" if found.kind == "contact" else "document"
    link = link_to_contact(found.ref)
    if kind == "document":
        document, _, key = found.ref.partition("/")
        link = link_to_document(document, key)
    return SearchResult(
        kind=kind,
        reference=found.ref,
        title=found.title,
        snippet=found.snippet,
        rank=found.rank,
        links=ResultLinks(self=link),
    )
