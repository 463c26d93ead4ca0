"""Searches a tenant's contacts and documents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from processes.cli import requests
from saas.database.search import search
from temporal_tenancy.cli import Answer, say, table


@dataclass(frozen=True)
class Result:
    """Something that matches, as the HTTP door shows it."""

    kind: str
    reference: str
    title: str
    snippet: str
    rank: float


async def find(query: str, *, tenant: str, limit: int) -> Answer:
    """Returns a tenant's best matches, best first; raises `QueryInvalid`."""
    async with requests.tenants_view(tenant) as session:
        found = await search(session, query, limit + 1)
    if len(found) > limit:
        say(f"These are the best {limit:,}; more match. --limit shows more.")
        found = found[:limit]
    results = [Result(f.kind, f.ref, f.title, f.snippet, f.rank) for f in found]
    rows = [(r.kind, r.reference, r.title, r.snippet) for r in results]
    return Answer(
        [_json(result) for result in results],
        table(("kind", "reference", "title", ""), rows, empty="Nothing of that is found."),
    )


def _json(result: Result) -> dict[str, Any]:
    return asdict(result)
