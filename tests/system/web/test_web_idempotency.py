"""`Idempotency-Key`: a request that is sent again has one effect and one answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update

from activities.cleanup import EXPIRING
from activities.deletion import Aging
from processes.web.idempotency import HEADER, REPLAYED
from saas.database.idempotency import IdempotencyKey
from saas.requests.idempotency import IdempotencyKeyInvalid, KeyedRequest
from temporal_tenancy import SessionLimits
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.relay import messages_of
from tests.fixtures.web import CONTACT, CONTACTS, Web, problem_of

REPORT: Final = {
    "kind": "usage.by_route",
    "parameters": {"first": "2013-04-01", "last": "2013-04-30"},
}
DAY: Final = {"input": {"period": "2013-04-30"}}
INDEX: Final = {"input": {"kind": "contact", "ref": str(CONTACT)}}
PARTNER: Final = {"url": "https://api.x.example/records", "credential": "hunter2-hunter2"}

Sent = dict[str, Any]

# Each route that makes something: its path, a request, and another one.
ROUTES: Final[dict[str, tuple[str, Sent, Sent]]] = {
    "export": (
        "/exports",
        {"json": {"dataset": "contacts"}},
        {"json": {"dataset": "contacts", "format": "parquet"}},
    ),
    "report": ("/reports", {"json": REPORT}, {"json": {**REPORT, "kind": "invoices.by_month"}}),
    "job": ("/jobs/search.index", {"json": INDEX}, {"json": {**INDEX, "key": "mine"}}),
    "job with a period": ("/jobs/report.daily", {"json": DAY}, {"json": {}}),
    "sync": ("/integrations/crm/sync", {}, {"path": "/integrations/erp/sync"}),
    "form": (
        "/imports",
        {"files": {"file": ("c.csv", CONTACTS)}},
        {"files": {"file": ("c.csv", CONTACTS[:-1])}},
    ),
    "other name": (
        "/imports",
        {"files": {"file": ("c.csv", CONTACTS)}},
        {"files": {"file": ("d.csv", CONTACTS)}},
    ),
    "file": (
        "/imports",
        {"content": CONTACTS, "headers": {"Content-Type": "text/csv"}},
        {"content": CONTACTS, "headers": {"Content-Type": "text/csv"}, "params": {"dry_run": 1}},
    ),
}


async def post(client: httpx.AsyncClient, path: str, key: str, sent: Sent) -> httpx.Response:
    sent = {"path": path, **sent}
    headers = {**sent.pop("headers", {}), HEADER: key}
    return await client.post(sent.pop("path"), headers=headers, **sent)


async def set_up(client: httpx.AsyncClient, path: str) -> None:
    """Sets up what the routes need."""
    if "/integrations/" in path:
        for name in ("crm", "erp"):
            await client.put(f"/integrations/{name}", json=PARTNER)


def objects_of(web: Web) -> int:
    """Counts the files in the object storage."""
    folder = web.folder / "storage"
    return sum(path.is_file() for path in folder.rglob("*")) if folder.exists() else 0


@pytest.mark.parametrize("route", ROUTES)
async def test_a_request_that_is_sent_again_has_one_effect_and_one_answer(
    web: Web, route: str
) -> None:
    path, sent, other = ROUTES[route]
    async with web.client("acme") as client, web.client("globex") as globex:
        await set_up(client, path)
        await set_up(globex, path)
        first = await post(client, path, "k", sent)
        again = await post(client, path, "k", sent)
        assert first.status_code == again.status_code == 202, (first.text, again.text)
        assert first.content == again.content
        assert (REPLAYED in first.headers, again.headers.get(REPLAYED)) == (False, "true")
        assert len(await messages_of(web.door.database, "acme")) == 1
        assert objects_of(web) == (path == "/imports")

        reused = await post(client, path, "k", other)
        assert (reused.status_code, problem_of(reused)) == (422, "IdempotencyKeyReused")
        assert len(await messages_of(web.door.database, "acme")) == 1
        assert objects_of(web) == (path == "/imports")

        theirs = await post(globex, path, "k", sent)
        assert (theirs.status_code, REPLAYED in theirs.headers) == (202, False)
        assert len(await messages_of(web.door.database, "globex")) == 1


async def test_every_route_that_makes_something_takes_a_key(web: Web) -> None:
    async with web.client() as client:
        document = (await client.get("/openapi.json")).json()
    takes = {
        path
        for path, operations in document["paths"].items()
        for parameter in operations.get("post", {}).get("parameters", [])
        if parameter["name"] == HEADER
    }
    posts = {path for path, operations in document["paths"].items() if "post" in operations}
    # To cancel twice is to cancel; a webhook has its own id.
    assert posts - takes == {
        "/imports/{import_id}/cancel",
        "/webhooks/payments",
        "/webhooks/payments/{tenant}",
    }


async def test_a_key_is_for_one_route(web: Web) -> None:
    async with web.client("acme") as client:
        await post(client, "/exports", "k", {"json": {"dataset": "contacts"}})
        reused = await post(client, "/reports", "k", {"json": REPORT})
    assert (reused.status_code, problem_of(reused)) == (422, "IdempotencyKeyReused")


async def test_requests_at_one_time_have_one_effect(web: Web) -> None:
    async with web.client("acme") as client:
        answers = await asyncio.gather(
            *(post(client, "/exports", "k", {"json": {"dataset": "contacts"}}) for _ in range(8))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert len(await messages_of(web.door.database, "acme")) == 1


async def test_who_meets_a_request_in_progress_is_told(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = SessionLimits(lock=timedelta(milliseconds=100))
    monkeypatch.setattr(web.door.database, "_tenant_limits", soon)
    with web.acting_for("acme"):
        async with tenant_session() as session:
            session.add(
                IdempotencyKey(
                    key="k",
                    fingerprint="",
                    answer=None,
                    expires_at=datetime.now(UTC) + timedelta(days=1),
                )
            )
            await session.flush()
            async with web.client("acme") as client:
                met = await post(client, "/exports", "k", {"json": {"dataset": "contacts"}})
            await session.rollback()
    assert (met.status_code, problem_of(met)) == (409, "IdempotencyKeyInUse")


async def test_a_refused_request_uses_up_no_key(web: Web) -> None:
    async with web.client("acme") as client:
        unknown = {"input": {"kind": "contact", "ref": str(UUID(int=1))}}
        refused = await post(client, "/jobs/search.index", "k", {"json": unknown})
        assert refused.status_code == 404
        assert (await post(client, "/jobs/search.index", "k", {"json": INDEX})).status_code == 202


@pytest.mark.parametrize(
    "sent", ["", "a b", "ü", "a\x7f", "k" * 256, '"k"\t"k"'], ids=lambda sent: ascii(sent[:10])
)
async def test_what_cannot_be_a_key_is_refused_and_nothing_done(web: Web, sent: str) -> None:
    async with web.client("acme") as client:
        headers = [(HEADER.encode(), sent.encode("latin-1"))]
        answer = await client.post("/exports", headers=headers, json={"dataset": "contacts"})
    assert (answer.status_code, problem_of(answer)) == (422, "IdempotencyKeyInvalid")
    assert await messages_of(web.door.database, "acme") == []


async def test_two_keys_are_refused(web: Web) -> None:
    async with web.client("acme") as client:
        headers = [(HEADER, "a"), (HEADER, "b")]
        answer = await client.post("/exports", headers=headers, json={"dataset": "contacts"})
    assert (answer.status_code, problem_of(answer)) == (422, "IdempotencyKeyInvalid")
    assert await messages_of(web.door.database, "acme") == []


async def test_a_key_is_kept_for_a_day_and_then_deleted(web: Web) -> None:
    asked = {"json": {"dataset": "contacts"}}
    async with web.client("acme") as client:
        first = await post(client, "/exports", "k", asked)
        with web.acting_for("acme"):
            async with tenant_session() as session:
                kept = (
                    await session.execute(text("select expires_at from idempotency_keys"))
                ).one()
                left = kept.expires_at - datetime.now(UTC)
                assert timedelta(hours=23) < left <= timedelta(hours=24)
                past = datetime.now(UTC) - timedelta(seconds=1)
                await session.execute(update(IdempotencyKey).values(expires_at=past))
        later = await post(client, "/exports", "k", asked)
    assert later.json()["id"] != first.json()["id"]
    [expiring] = [rows for rows in EXPIRING if rows.model is IdempotencyKey]
    assert isinstance(expiring, Aging)
    assert expiring.keep == timedelta(0)


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), JSON), st.dictionaries(st.text(), JSON))
def test_two_requests_have_one_fingerprint_only_if_they_are_equal(one: Sent, other: Sent) -> None:
    reordered = dict(reversed(one.items()))
    first, second = KeyedRequest.of("k", one), KeyedRequest.of("k", other)
    assert KeyedRequest.of("k", reordered) == first
    assert (first == second) == (_typed(one) == _typed(other))


def _typed(value: Any) -> Any:
    """Tells 1 from true, as JSON does."""
    if isinstance(value, dict):
        return {name: _typed(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_typed(each) for each in value]
    return (type(value), value)


@settings(max_examples=50)
@given(st.text(max_size=300))
def test_a_key_is_visible_ascii(key: str) -> None:
    fine = 0 < len(key) <= 255 and all("!" <= character <= "~" for character in key)
    try:
        KeyedRequest.of(key, {})
    except IdempotencyKeyInvalid:
        assert not fine
    else:
        assert fine
