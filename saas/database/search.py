"""Full-text search in a tenant's own documents: the index table and the query."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from sqlalchemy import Computed, func, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.paging import PAGE_ROWS, PAGE_ROWS_MAX, CursorInvalid, Cursors, Page
from saas.database.tables import TenantData
from saas.refusals import Refused
from temporal_tenancy import TenantOwned, current_tenant

QUERY_MAX_CHARACTERS: Final = 1_000

# The "simple" configuration does not stem words, which suits names, addresses and any language.
# PostgreSQL takes an address for one word, and leaves out a tag: blanks in place of punctuation
# make `bob`, `example` and `com` of bob@example.com, in what is indexed and in what is asked for.
# Spelled as the server prints it, so that model and migration can be compared.
_PUNCTUATION: Final = "#&+-./:;<=>?@_~"  # the parser parts words at any other
_BLANKS: Final = " " * len(_PUNCTUATION)
_APART: Final = str.maketrans(_PUNCTUATION, _BLANKS)
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


def _words_of(column: str, weight: str) -> str:
    split = f"translate({column}, '{_PUNCTUATION}'::text, '{_BLANKS}'::text)"
    return f"setweight(to_tsvector('simple'::regconfig, {split}), '{weight}'::\"char\")"


_WORDS: Final = f"({_words_of('title', 'A')} || {_words_of('body', 'B')})"


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
    rank: float  # the higher, the better


_SEARCH: Final = text("""
    with matching as (
        select kind, ref, title, body, query,
               cast(ts_rank(words, query) as double precision) as rank
          from search_documents, websearch_to_tsquery('simple', :query) as query
         where tenant_id = :tenant_id
           and words @@ query
    ),
    best as (
        select *
          from matching
         where cast(:rank as double precision) is null
            or (-rank, kind, ref) > (-cast(:rank as double precision), :kind, :ref)
         order by rank desc, kind, ref
         limit :limit
    )
    select kind, ref, title, rank,
           ts_headline('simple', body, query, 'StartSel="", StopSel="", MaxWords=30, MinWords=10')
               as snippet
      from best
     order by rank desc, kind, ref
""")


class QueryInvalid(Refused, ValueError):
    """The query cannot be searched for."""


async def search(session: AsyncSession, query: str, limit: int = PAGE_ROWS) -> Sequence[Found]:
    """Returns the current tenant's best matches for `query`, best first.

    Args:
        session: a `tenant_session()`.
        query: in web search syntax: words that must all match, "a phrase", or, -not.
        limit: the maximum number of matches, 1 to 100.

    Raises:
        QueryInvalid: the query is over 1,000 characters or has a NUL.
        ValueError: the limit is out of range.
    """
    return (await search_page(session, query, limit=limit)).rows


async def search_page(
    session: AsyncSession, query: str, *, after: str | None = None, limit: int = PAGE_ROWS
) -> Page[Found]:
    """Returns a page of the matches for `query`, best first; takes and raises as `search` does.

    `after` is the cursor of the page, from `Page.next` for the same query. Raises `CursorInvalid`
    for any other.
    """
    if "\x00" in query or not _is_unicode(query):
        raise QueryInvalid(
            "a query is text in UTF-8 without NUL characters. Leave out what is none."
        )
    if len(query) > QUERY_MAX_CHARACTERS:
        raise QueryInvalid(f"a query is at most {QUERY_MAX_CHARACTERS:,} characters of text.")
    if not 1 <= limit <= PAGE_ROWS_MAX:
        raise ValueError(f"a limit is 1 to {PAGE_ROWS_MAX}.")
    cursors = Cursors("search", {"query": query})
    rank, kind, ref = (None, "", "") if after is None else _key(cursors.read(after))
    values = {
        "tenant_id": current_tenant(),
        "query": _asked(query),
        "limit": limit + 1,
        "rank": rank,
        "kind": kind,
        "ref": ref,
    }
    found = [Found(**row) for row in (await session.execute(_SEARCH, values)).mappings()]
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], cursors.made([last.rank, last.kind, last.ref]))


def _asked(query: str) -> str:
    """Returns a query in which a term with punctuation is the phrase of its words, as indexed."""
    terms: list[str] = []
    for sign, phrase, term in _TERM.findall(query):
        words = (phrase or term).translate(_APART).split()
        alone = len(words) == 1 and not phrase
        if words:
            terms.append(sign + (words[0] if alone else f'"{" ".join(words)}"'))
    return " ".join(terms)


def _key(values: list[Any]) -> tuple[float, str, str]:
    match values:
        case [float() | int() as rank, str(kind), str(ref)] if isfinite(rank):
            if "\x00" not in kind + ref and _is_unicode(kind + ref):
                return float(rank), kind, ref
    raise CursorInvalid


def _is_unicode(text: str) -> bool:
    """Whether the text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
