"""Every list of the HTTP API: in pages that stay put, for the tenant of the key only."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processes.web.app import create_app
from processes.web.door import make_door
from saas.database.contacts import Contact, Import
from saas.database.exports import Export
from saas.database.integrations import Integration
from saas.database.paging import Cursors
from saas.database.reports import RequestedReport
from saas.database.search import SearchDocument
from saas.database.tables import DailyUsage, Document, Invoice
from saas.settings import Settings
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.web import Web, problem_of

COUNT = 5  # rows of each list
AT = datetime(2013, 4, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)
QUERY = "zeppelin"


def rows(first: int, count: int = COUNT) -> Iterator[Any]:
    """Rows of every list, numbered from `first`."""
    for number in range(first, first + count):
        yield Import(
            file_name=f"{number}.csv",
            path="x",
            size=1,
            encoding="utf-8",
            position=0,
            dry_run=False,
            started_by="tests",
        )
        yield Export(dataset="contacts", format="csv", expires_at=LATER)
        yield RequestedReport(kind="usage.by_route", parameters={})
        yield Invoice(
            period=f"{2000 + number}-04",
            currency="USD",
            total_cents=1,
            usage_events=1,
            period_start=AT,
            period_end=AT,
        )
        yield DailyUsage(
            day=date(2013, 4, number), events=1, cancelled=0, distance=2**40, air_time=1
        )
        yield Document(kind=f"kind{number % 2}", key=f"{number:02}", content={"n": number})
        yield Contact(email=f"{number}@x.example")
        yield Integration(name=f"partner{number:02}", url="https://x.example")
        # Pairs of the same rank.
        title = QUERY if number % 4 < 2 else "other"
        yield SearchDocument(kind="document", ref=f"kind/{number:02}", title=title, body=QUERY)


async def give(web: Web, tenant: str, first: int, count: int = COUNT) -> None:
    with web.acting_for(tenant):
        async with tenant_session() as session:
            for row in rows(first, count):
                session.add(row)
                await session.flush()  # one by one, so that the ids ascend


@pytest.fixture
async def filled(web: Web) -> Web:
    """Both tenants have some of everything."""
    await give(web, "acme", 1)
    await give(web, "globex", 11)
    return web


@cache
def lists() -> list[str]:
    """Returns the paths of all lists, by the API's own description."""
    document = create_app(make_door(Settings.model_construct(), Database())).openapi()
    found = []
    for path, operations in document["paths"].items():
        names = {each["name"] for each in operations.get("get", {}).get("parameters", ())}
        if {"after", "limit"} <= names:
            found.append(f"{path}?q={QUERY}" if "q" in names else path)
    return found


def paged(path: str, **parameters: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{path}{'&' if '?' in path else '?'}{query}"


async def read(client: httpx.AsyncClient, path: str, **parameters: object) -> Any:
    answer = await client.get(paged(path, **parameters))
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


async def test_every_list_is_read_page_by_page_and_new_rows_move_none(filled: Web) -> None:
    found = lists()
    assert len(found) == 9
    async with filled.client("acme") as client, filled.client("globex") as other:
        firsts = {path: await read(client, path, limit=2) for path in found}
        whole = {path: await read(client, path, limit=100) for path in found}
        await give(filled, "acme", 6)
        for path in found:
            assert len(whole[path]["items"]) == COUNT + (path == "/contacts")  # and the fixture's
            assert whole[path]["next"] is None
            pages = [firsts[path]]
            while pages[-1]["next"] is not None:
                pages.append(await read(client, path, limit=2, after=pages[-1]["next"]))
            items = [item for page in pages for item in page["items"]]
            old = [item for item in items if item in whole[path]["items"]]
            assert old == whole[path]["items"], path
            theirs = (await read(other, path))["items"]
            assert theirs
            assert not any(item in theirs for item in items if path != "/search"), path


async def test_the_newest_come_first_and_a_filter_is_the_cursors_too(filled: Web) -> None:
    async with filled.client("acme") as client:
        names = [each["file_name"] for each in (await read(client, "/imports"))["items"]]
        assert names == [f"{number}.csv" for number in range(COUNT, 0, -1)]
        days = [each["day"] for each in (await read(client, "/usage/daily", limit=2))["items"]]
        assert days == ["2013-04-05", "2013-04-04"]
        odd = await read(client, "/documents", kind="kind1", limit=2)
        assert [each["key"] for each in odd["items"]] == ["05", "03"]
        rest = await read(client, "/documents", kind="kind1", limit=2, after=odd["next"])
        assert ([each["key"] for each in rest["items"]], rest["next"]) == (["01"], None)
        mixed = await client.get(paged("/documents", kind="kind0", after=odd["next"]))
        assert (mixed.status_code, problem_of(mixed)) == (422, "CursorInvalid")


async def test_a_cursor_is_good_for_its_own_list_and_tenant_only(filled: Web) -> None:
    found = lists()
    async with filled.client("acme") as client, filled.client("globex") as other:
        cursors = {path: (await read(client, path, limit=1))["next"] for path in found}
        for path, another in zip(found, [*found[1:], found[0]], strict=True):
            own = await client.get(paged(path, after=cursors[path]))
            assert own.status_code == 200, path
            for caller, of in ((client, another), (other, path)):
                answer = await caller.get(paged(path, after=cursors[of]))
                assert (answer.status_code, problem_of(answer)) == (422, "CursorInvalid"), path


async def test_what_is_expired_is_not_listed(filled: Web) -> None:
    with filled.acting_for("acme"):
        async with tenant_session() as session:
            gone = datetime.now(UTC) - timedelta(seconds=1)
            session.add(Export(dataset="invoices", format="csv", expires_at=gone))
            session.add(Document(kind="gone", key="k", content={}, expires_at=gone))
    async with filled.client("acme") as client:
        for path in ("/exports", "/documents"):
            items = (await read(client, path))["items"]
            assert len(items) == COUNT
            assert not any(item.get("kind") == "gone" for item in items)
        assert (await client.get("/documents/gone/k")).status_code == 404


def forged(values: Any, path: str = "contacts") -> str:
    """Returns a cursor with the right digest of the wrong key: anybody can compute it."""
    cursors = Cursors(path, {})
    body = json.dumps(values).encode()
    return base64.urlsafe_b64encode(cursors._digest(body) + body).decode().rstrip("=")


FORGED = [[], ["x", "y"], None, [None], ["not a UUID"], ["\x00"], ["\ud800", "\x00"]]


async def test_a_forged_cursor_is_as_wrong_as_any(filled: Web) -> None:
    names = {"/usage/daily": "daily usage", f"/search?q={QUERY}": "search"}
    async with filled.client("acme") as client:
        for path in lists():
            for values in FORGED:
                with filled.acting_for("acme"):
                    cursor = forged(values, names.get(path, path[1:]))
                answer = await client.get(paged(path, after=cursor))
                if answer.status_code != 200:  # text is a valid key of some lists
                    assert (answer.status_code, problem_of(answer)) == (422, "CursorInvalid")


@given(
    path=st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8]),
    name=st.sampled_from(["after", "limit"]),
    value=st.text(max_size=30)
    | st.sampled_from(["0", "-1", "101", "1e3", "9" * 500, "AA", "====", "é", "\x00", "A" * 3_000]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_whatever_else_stands_there_is_refused(
    web: Web, path: int, name: str, value: str
) -> None:
    where = lists()[path].partition("?")[0]
    parameters = {name: value.encode(errors="replace").decode()} | (
        {"q": QUERY} if where == "/search" else {}
    )
    async with web.client("acme") as client:
        answer = await client.get(where, params=parameters)
    assert answer.status_code in ((200, 422) if name == "limit" else (422,)), (where, parameters)
    if answer.status_code == 422:
        problem_of(answer)
