"""Full-text search in a tenant's own documents: the index table and the query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Computed, func, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.models import TenantData
from temporal_tenancy import TenantOwned, current_tenant

RESULTS_MAX: Final = 100
QUERY_MAX_CHARACTERS: Final = 1_000

# The "simple" configuration does not stem words, which suits names, addresses and any language.
# Spelled as the server prints it, so that model and migration can be compared.
_WORDS: Final = (
    "(setweight(to_tsvector('simple'::regconfig, title), 'A'::\"char\") || "
    "setweight(to_tsvector('simple'::regconfig, body), 'B'::\"char\"))"
)


class SearchDocument(TenantOwned, TenantData):
    """One searchable item.

    A GIN index on the words would not help: the operator `@@` is not leakproof, so under row-level
    security the planner cannot use an index for it. The primary key finds the tenant's rows and
    only those are matched, which takes half a millisecond per thousand rows.
    """

    __tablename__ = "search_documents"

    kind: Mapped[str] = mapped_column(primary_key=True)
    ref: Mapped[str] = mapped_column(primary_key=True)  # the item's id, unique within its kind
    title: Mapped[str]
    body: Mapped[str]
    words: Mapped[str] = mapped_column(TSVECTOR, Computed(_WORDS, persisted=True))
    indexed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


@dataclass(frozen=True)
class Found:
    """One search result."""

    kind: str
    ref: str
    title: str
    snippet: str  # plain text around the matching words


_SEARCH: Final = text("""
    with best as (
        select kind, ref, title, body, ts_rank(words, query) as rank, query
          from search_documents, websearch_to_tsquery('simple', :query) as query
         where tenant_id = :tenant_id
           and words @@ query
         order by rank desc, kind, ref
         limit :limit
    )
    select kind, ref, title,
           ts_headline('simple', body, query, 'StartSel="", StopSel="", MaxWords=30, MinWords=10')
               as snippet
      from best
     order by rank desc, kind, ref
""")


async def search(session: AsyncSession, query: str, limit: int = 20) -> Sequence[Found]:
    """Returns the current tenant's best matches for `query`, best first.

    Args:
        session: a `tenant_session()`.
        query: in web search syntax: words that must all match, "a phrase", or, -not.
        limit: the maximum number of matches, 1 to 100.

    Raises:
        ValueError: the query is over 1,000 characters or has a NUL, or the limit is out of range.
    """
    if len(query) > QUERY_MAX_CHARACTERS or "\x00" in query:
        raise ValueError(f"a query is at most {QUERY_MAX_CHARACTERS:,} characters of text.")
    if not 1 <= limit <= RESULTS_MAX:
        raise ValueError(f"a limit is 1 to {RESULTS_MAX}.")
    values = {"tenant_id": current_tenant(), "query": query, "limit": limit}
    return [Found(**row) for row in (await session.execute(_SEARCH, values)).mappings()]
