"""Exports, reports, search and records over HTTP, from the request to the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import update
from temporalio.client import Client

from saas.database.exports import Export
from saas.database.tables import Document, Invoice, UsageEvent
from saas.queues import Queue
from temporal_tenancy.control_plane._api_keys import ApiKeys
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.relay import messages_of, running
from tests.fixtures.saas import saas_worker
from tests.fixtures.web import CONTACTS, Web, problem_of

APRIL = {"first": "2013-04-01", "last": "2013-04-30"}
BY_ROUTE = {"kind": "usage.by_route", "parameters": APRIL}


@pytest.fixture
async def served(web_and_temporal: Web, saas: Client, make_relay: Any) -> AsyncIterator[Web]:
    """The door, with a relay and workers behind it."""
    async with (
        saas_worker(saas, task_queue=Queue.BULK),
        saas_worker(saas, task_queue=Queue.DEFAULT),
        running(make_relay()),
    ):
        yield web_and_temporal


async def until(client: httpx.AsyncClient, path: str, **values: Any) -> Any:
    """Polls until the answer has these values."""
    while True:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        if values.items() <= found.items():
            return found
        await asyncio.sleep(0.05)


async def until_found(client: httpx.AsyncClient, query: str) -> Any:
    while True:
        answer = await client.get("/search", params={"q": query})
        assert answer.status_code == 200, answer.text
        if found := answer.json()["items"]:
            return found
        await asyncio.sleep(0.05)


async def test_what_is_imported_is_found_and_leaves_as_a_file(served: Web) -> None:
    async with served.client("acme") as client, served.client("globex") as other:
        for content in (CONTACTS, b"email,company\nann@x.example,Zeppelin Ltd\n"):
            started = (await client.post("/imports", files={"file": content})).json()
            await until(client, started["links"]["self"], status="completed")

        [ann] = await until_found(client, "zeppelin")
        assert (ann["kind"], ann["title"]) == ("contact", "Ann")
        shown = (await client.get(ann["links"]["self"])).json()
        assert (shown["id"], shown["company"]) == (ann["reference"], "Zeppelin Ltd")
        [bob] = await until_found(client, "bob")
        assert bob["title"] == "Bob"
        assert (await other.get("/search?q=zeppelin")).json()["items"] == []
        assert (await other.get(ann["links"]["self"])).status_code == 404

        asked = await client.post("/exports", json={"dataset": "contacts"})
        assert asked.status_code == 202, asked.text
        links = asked.json()["links"]
        ready = await until(client, links["self"], status="completed", rows=3)
        file = await client.get(links["file"])
        assert file.headers["content-type"] == "text/csv; charset=utf-8"
        assert 'filename="contacts-' in file.headers["content-disposition"]
        assert "Zeppelin Ltd" in file.text
        token = urlsplit(ready["download_url"]).path
        async with served.client() as keyless:
            assert (await keyless.get(token)).text == file.text
        assert (await client.get(links["job"])).json()["status"] == "succeeded"
        for path in (links["self"], links["file"]):
            assert (await other.get(path)).status_code == 404


async def test_a_report_has_its_result_and_is_found(served: Web) -> None:
    with served.acting_for("acme"):
        async with tenant_session() as session:
            session.add(
                UsageEvent(
                    time_hour=datetime(2013, 4, 3, tzinfo=UTC),
                    carrier="AC",
                    flight=1,
                    origin="JFK",
                    destination="HNL",
                    distance=100,
                    cancelled=False,
                )
            )
    async with served.client("acme") as client, served.client("globex") as other:
        asked = await client.post("/reports", json=BY_ROUTE)
        assert asked.status_code == 202, asked.text
        path = asked.json()["links"]["self"]
        made = await until(client, path, status="completed")
        assert made["parameters"] == APRIL
        [route] = made["result"]["routes"]
        assert (route["origin"], route["destination"], route["events"]) == ("JFK", "HNL", 1)
        [found] = await until_found(client, "hnl")
        assert found["reference"] == f"report.requested/{made['id']}"
        document = (await client.get(found["links"]["self"])).json()
        assert document["content"]["routes"] == made["result"]["routes"]
        assert (await other.get(path)).status_code == 404

        daily = await client.post("/jobs/report.daily", json={"key": "2013-04-03"})
        await until(client, daily.json()["links"]["self"], status="succeeded")
        while len(await until_found(client, "hnl")) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        counted = await client.post("/jobs/analytics.aggregate", json={"key": "2013-04"})
        await until(client, counted.json()["links"]["self"], status="succeeded")
        [day] = (await client.get("/usage/daily")).json()["items"]
        assert (day["day"], day["events"]) == ("2013-04-03", 1)


async def test_an_invoice_is_read_by_its_own_tenant(web: Web) -> None:
    invoice = Invoice(
        period="2013-04",
        currency="USD",
        total_cents=1250,
        usage_events=9,
        period_start=datetime(2013, 4, 1, tzinfo=UTC),
        period_end=datetime(2013, 5, 1, tzinfo=UTC),
    )
    with web.acting_for("acme"):
        async with tenant_session() as session:
            session.add(invoice)
    async with web.client("acme") as client, web.client("globex") as other:
        [item] = (await client.get("/invoices")).json()["items"]
        assert (item["period"], item["total_cents"], item["usage_events"]) == ("2013-04", 1250, 9)
        assert (await other.get("/invoices")).json()["items"] == []


@pytest.mark.parametrize(
    ("path", "sent", "status", "problem"),
    [
        ("/exports", {"dataset": "users"}, 422, "InvalidPayload"),
        ("/exports", {"dataset": "contacts", "format": "xlsx"}, 422, "InvalidPayload"),
        ("/exports", {"dataset": "contacts", "tenant_id": "globex"}, 422, "InvalidPayload"),
        ("/exports", {}, 422, "InvalidPayload"),
        ("/exports", [], 422, "InvalidPayload"),
        ("/reports", {"kind": "usage", "parameters": APRIL}, 422, "InvalidPayload"),
        ("/reports", {"kind": "usage.by_route"}, 422, "InvalidPayload"),
        ("/reports", {**BY_ROUTE, "parameters": {**APRIL, "last": "2013-04-31"}}, 422,
         "InvalidPayload"),
        ("/reports", {**BY_ROUTE, "parameters": {**APRIL, "tenant_id": "globex"}}, 422,
         "InvalidPayload"),
        ("/reports", {**BY_ROUTE, "parameters": {"first": "9998-01-01", "last": "9998-01-02"}},
         422, "InvalidPayload"),
        ("/reports", {"kind": "invoices.by_month",
                      "parameters": {"first": "9998-01", "last": "9998-02"}}, 422,
         "InvalidPayload"),
        ("/reports", {"kind": "\x1b[2J", "parameters": {}}, 422, "InvalidPayload"),
    ],
)  # fmt: skip
async def test_what_cannot_be_made_is_refused_and_nothing_is_requested(
    web: Web, path: str, sent: Any, status: int, problem: str
) -> None:
    async with web.client("acme") as client:
        answer = await client.post(path, json=sent)
        assert (answer.status_code, problem_of(answer)) == (status, problem), answer.text
        assert (await client.get(path)).json()["items"] == []
    assert await messages_of(web.door.database, "acme") == []


async def test_today_is_the_tenants_own_day(web: Web, tenants: Tenants) -> None:
    """A report may cover a day that has begun where the tenant is, and none that has not."""
    for number, zone in enumerate(("Pacific/Kiritimati", "Pacific/Pago_Pago")):
        await tenants.add(f"local{number}", "Local", plan="enterprise", time_zone=zone)
        _, key = await ApiKeys(web.door.database).create(f"local{number}", "tests")
        today = datetime.now(ZoneInfo(zone)).date()
        tomorrow = today + timedelta(days=1)
        async with web.client(headers={"Authorization": f"Bearer {key}"}) as client:
            for day, status in ((today, 202), (tomorrow, 422)):
                span = {"first": day.isoformat(), "last": tomorrow.isoformat()}
                sent = {"kind": "usage.by_route", "parameters": span}
                answer = await client.post("/reports", json=sent)
                assert answer.status_code == status, (zone, day, answer.text)


UNKNOWN = ["no-uuid", "..%2f..", "%00", "%ff", "é", "a" * 300, str(UUID(int=0))]


async def test_another_tenants_is_as_unknown_as_what_never_was(web: Web) -> None:
    with web.acting_for("acme"):
        async with tenant_session() as session:
            session.add(Document(kind="note", key="k", content={}))
    async with web.client("acme") as acme, web.client("globex") as globex:
        export = (await acme.post("/exports", json={"dataset": "contacts"})).json()["id"]
        report = (await acme.post("/reports", json=BY_ROUTE)).json()["id"]
        contact = uuid4()
        for path, own in (
            ("/exports/{}", export),
            ("/exports/{}/file", export),
            ("/reports/{}", report),
            ("/contacts/{}", contact),
            ("/documents/note/{}", "k"),
            ("/documents/{}/k", "note"),
        ):
            answers = [await globex.get(path.format(each)) for each in (own, *UNKNOWN)]
            assert {answer.status_code for answer in answers} == {404}, path
            assert len({answer.text for answer in answers if "Unknown" in answer.text}) == 1, path
        assert (await acme.get("/documents/note/k")).json()["content"] == {}


async def test_a_file_that_is_not_there_yet_is_a_conflict_and_an_expired_one_is_gone(
    web: Web,
) -> None:
    async with web.client("acme") as client:
        links = (await client.post("/exports", json={"dataset": "contacts"})).json()["links"]
        waiting = await client.get(links["file"])
        assert (waiting.status_code, problem_of(waiting)) == (409, "ExportNotReady")
        assert (await client.get(links["self"])).json()["download_url"] is None
        with web.acting_for("acme"):
            async with tenant_session() as session:
                past = datetime.now(UTC) - timedelta(seconds=1)
                await session.execute(update(Export).values(expires_at=past))
        for path in (links["self"], links["file"]):
            expired = await client.get(path)
            assert (expired.status_code, problem_of(expired)) == (404, "ExportUnknown")


async def test_a_door_without_a_secret_for_links_still_gives_the_file(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web.client("acme") as client:
        links = (await client.post("/exports", json={"dataset": "contacts"})).json()["links"]
        with web.acting_for("acme"):
            async with tenant_session() as session:
                done = {"status": "completed", "path": "acme/exports/x.csv"}
                await session.execute(update(Export).values(done))
        assert (await client.get(links["self"])).json()["download_url"] is not None
        monkeypatch.delenv("LINK_SECRET")
        shown = await client.get(links["self"])
        assert (shown.status_code, shown.json()["download_url"]) == (200, None)
        missing = await client.get(links["file"])
        assert (missing.status_code, problem_of(missing)) == (404, "FileUnknown")


async def test_who_is_suspended_reads_and_requests_nothing(web: Web, tenants: Tenants) -> None:
    put = {"url": "https://x.example", "credential": "c"}
    async with web.client("acme") as client:
        await client.put("/integrations/crm", json=put)
        await tenants.set_status("acme", TenantStatus.SUSPENDED)
        for method, path, sent in (
            ("POST", "/exports", {"dataset": "contacts"}),
            ("POST", "/reports", BY_ROUTE),
            ("PUT", "/integrations/other", put),
            ("POST", "/integrations/crm/sync", None),
        ):
            answer = await client.request(method, path, json=sent)
            assert (answer.status_code, problem_of(answer)) == (403, "TenantSuspended"), path
        for path in ("/me", "/exports", "/contacts", "/integrations/crm", "/search?q=x"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/me")).json()["status"] == "suspended"


async def test_who_asks_is_told_whose_key_it_is(web: Web, tenants: Tenants) -> None:
    async with web.client("globex") as client:
        me = (await client.get("/me")).json()
    assert (me["tenant_id"], me["name"], me["plan"]) == ("globex", "Globex", "enterprise")
    assert {"exports", "reports", "imports"} <= set(me["features"])
    assert me["time_zone"] == "UTC"
    assert me["caller"].endswith('"tests"')
    assert web.keys["globex"] not in str(me)


@pytest.mark.parametrize(
    "query", ["", "&|!", "'; drop table", "é" * 1_000, "-x", '"', "or", "\x1b"]
)
async def test_any_words_can_be_searched_for(web: Web, query: str) -> None:
    async with web.client("acme") as client:
        answer = await client.get("/search", params={"q": query})
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("x" * 1_001, "A query is at most 1,000 characters of text."),
        ("a\x00b", "A query is text in UTF-8 without NUL characters. Leave out what is none."),
    ],
)
async def test_a_query_that_is_none_is_refused(web: Web, query: str, said: str) -> None:
    async with web.client("acme") as client:
        answer = await client.get("/search", params={"q": query})
    assert (answer.status_code, problem_of(answer)) == (422, "QueryInvalid")
    assert answer.json()["error"]["message"] == said
