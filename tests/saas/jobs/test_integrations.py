"""Integrations: a partner's records are copied page by page, and resumed after a stop."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from activities import integrations as module
from saas.database.integrations import ExternalRecord, Integration
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.failures import root_cause
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.shared_state import Rate
from tests.fixtures.outside import serving
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from workflows import integrations as workflow_module
from workflows.integrations import SyncIntegration, SyncIntegrationInput, SyncReport

SIZE = 10  # records per page
Answerer = Callable[[Request], Response | None]


@dataclass
class Partner:
    """A partner's API that serves as many records as a test sets, and records its requests."""

    records: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)  # cursors
    at: list[float] = field(default_factory=list)  # when, in seconds
    credentials: list[str] = field(default_factory=list)
    instead: list[Response] = field(default_factory=list)  # answers that come before the real ones
    # Runs before a finished answer is sent: the partner is slow.
    meanwhile: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor")
        self.asked.append(cursor)
        self.at.append(time.monotonic())
        self.credentials.append(request.headers["authorization"])
        if self.instead:
            return self.instead.pop(0)
        start = int(cursor or 0)
        end = min(start + SIZE, len(self.records))
        more = end < len(self.records)
        answer = JSONResponse(
            {"items": self.records[start:end], "cursor": str(end), "has_more": more}
        )
        if self.meanwhile:
            await self.meanwhile.pop()()
        return answer


@pytest.fixture
async def partner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Partner]:
    partner = Partner()
    app = Starlette(routes=[Route("/records", partner.answer)])
    async with serving(app) as port:
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"127.0.0.1:{port}")
        partner.url = f"http://127.0.0.1:{port}/records"
        yield partner


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of credentials."""
    for tenant in ("acme", "globex"):
        (tmp_path / tenant).mkdir()
        (tmp_path / tenant / "integrations.crm").write_text(f"token-of-{tenant}\n")
    monkeypatch.setenv("SECRETS_URL", tmp_path.as_uri())
    return tmp_path


@pytest.fixture
async def worker(saas: Client, tenants: Tenants) -> AsyncIterator[None]:
    for tenant in ("acme", "globex"):
        await tenants.add(tenant, tenant, plan="standard")
    async with saas_worker(saas):
        yield


async def set_up(database: Database, tenant: str, url: str, name: str = "crm") -> UUID:
    with within(database, tenant):
        async with tenant_session() as session:
            added = insert(Integration).values(name=name, url=url).returning(Integration.id)
            return (await session.scalars(added)).one()


async def sync(client: Client, tenant: str, integration_id: UUID) -> SyncReport:
    return await client.execute_workflow(
        SyncIntegration.run,
        SyncIntegrationInput(tenant_id=tenant, integration_id=integration_id),
        id=f"{tenant}/integrations.sync/{uuid4()}",
        task_queue=Queue.BULK,
    )


async def failure(client: Client, tenant: str, integration_id: UUID) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await sync(client, tenant, integration_id)
    cause = root_cause(caught.value.cause)
    assert isinstance(cause, ApplicationError)
    return cause


async def integration_of(database: Database, tenant: str) -> Integration:
    with within(database, tenant):
        async with tenant_session() as session:
            return (await session.scalars(select(Integration))).one()


async def records_of(database: Database, tenant: str) -> dict[str, Any]:
    with within(database, tenant):
        async with tenant_session() as session:
            query = select(ExternalRecord.external_id, ExternalRecord.data)
            return {row.external_id: row.data for row in await session.execute(query)}


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "name": f"Record {number}"} for number in range(count)]


@pytest.mark.usefixtures("worker")
async def test_all_pages_are_taken_over_with_the_tenants_own_credential(
    saas: Client, database: Database, partner: Partner
) -> None:
    partner.records = numbered(25)
    acme = await set_up(database, "acme", partner.url)
    assert await sync(saas, "acme", acme) == SyncReport(pages=3, records=25)
    assert partner.asked == [None, "10", "20"]
    assert set(partner.credentials) == {"Bearer token-of-acme"}
    records = await records_of(database, "acme")
    assert records == {str(record["id"]): record for record in partner.records}
    assert await records_of(database, "globex") == {}
    integration = await integration_of(database, "acme")
    assert (integration.status, integration.cursor) == ("synced", "25")
    assert integration.last_synced_at is not None

    globex = await set_up(database, "globex", partner.url)
    await sync(saas, "globex", globex)
    assert partner.credentials[-1] == "Bearer token-of-globex"
    assert len(await records_of(database, "globex")) == 25


@pytest.mark.usefixtures("worker")
async def test_the_next_run_begins_where_the_last_one_ended(
    saas: Client, database: Database, partner: Partner, secrets: Path
) -> None:
    partner.records = numbered(5)
    acme = await set_up(database, "acme", partner.url)
    await sync(saas, "acme", acme)
    partner.records += [{"id": "5", "name": "New"}, {"id": 0, "name": "Changed"}]
    (secrets / "acme" / "integrations.crm").write_text("rotated")
    assert await sync(saas, "acme", acme) == SyncReport(pages=1, records=2)
    assert partner.asked == [None, "5"]
    assert partner.credentials[-1] == "Bearer rotated"
    records = await records_of(database, "acme")
    assert (len(records), records["0"]["name"]) == (6, "Changed")


@pytest.mark.usefixtures("worker")
async def test_who_asks_to_be_left_alone_is_and_the_page_is_asked_for_again(
    saas: Client, database: Database, partner: Partner
) -> None:
    partner.records = numbered(15)
    later = "Retry-After"
    partner.instead = [
        JSONResponse({"items": [], "cursor": "0", "has_more": True}),
        Response(status_code=429, headers={later: "3"}),
    ]
    acme = await set_up(database, "acme", partner.url)
    assert (await sync(saas, "acme", acme)).records == 15
    assert partner.asked == [None, "0", "0", "10"]
    # Otherwise the first retry comes after 2 seconds.
    assert partner.at[2] - partner.at[1] >= 2.9


@pytest.mark.usefixtures("worker")
async def test_a_failure_keeps_the_pages_before_it_and_is_seen(
    saas: Client, database: Database, partner: Partner
) -> None:
    partner.records = numbered(5)
    acme = await set_up(database, "acme", partner.url)
    first = JSONResponse({"items": numbered(1), "cursor": "1", "has_more": True})
    partner.instead = [first, Response("token-of-acme is wrong", status_code=403)]
    refused = await failure(saas, "acme", acme)
    assert refused.type == "AnswerRefused"
    assert "token" not in refused.message
    assert len(partner.asked) == 2  # no retry can change it
    integration = await integration_of(database, "acme")
    assert (integration.status, integration.cursor) == ("failed", "1")
    assert integration.failure is not None
    assert integration.failure.startswith("The partner refused the credential.")
    assert list(await records_of(database, "acme")) == ["0"]
    assert (await sync(saas, "acme", acme)).records == 4
    synced = await integration_of(database, "acme")
    assert (synced.status, synced.failure) == ("synced", None)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("instead", "told"),
    [
        (Response(status_code=401), "The partner refused the credential. Set a new one."),
        (Response(status_code=418), "The partner refused the request (418)."),
        (Response(status_code=302), "The URL leads on to another one."),
        (Response("{}"), "The partner's answer is not a page of records."),
        (Response("x" * 11 * 1024 * 1024), "The partner's answer was too large"),
    ],
)
async def test_a_tenant_is_told_why_a_sync_failed(
    saas: Client, database: Database, partner: Partner, instead: Response, told: str
) -> None:
    acme = await set_up(database, "acme", partner.url)
    partner.instead = [instead]
    await failure(saas, "acme", acme)
    reason = (await integration_of(database, "acme")).failure
    assert reason is not None
    assert reason.startswith(told)


@pytest.mark.usefixtures("worker")
async def test_a_partner_that_does_not_answer_is_told_without_names_of_errors(
    saas: Client, database: Database, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_module, "OUTSIDE_RETRIES", RetryPolicy(maximum_attempts=1))
    monkeypatch.setenv("OUTGOING_HTTP_ALLOW", "127.0.0.1:1")
    acme = await set_up(database, "acme", "http://127.0.0.1:1/records")
    refused = await failure(saas, "acme", acme)
    assert refused.message == "127.0.0.1 does not take the connection."
    assert (await integration_of(database, "acme")).failure == "The partner did not answer."


def read(body: str) -> list[str]:
    """Returns the ids of the records on a page."""
    integration = Integration(id=uuid4(), name="crm", url="", cursor="here")
    return [
        module._id(integration, item) for item in module._read(integration, body.encode()).items
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "{}",
        '{"items": [1]}',
        '{"items": [{"name": "no id"}]}',
        '{"items": [{"id": true}]}',
        '{"items": [{"id": ""}]}',
        '{"items": [{"id": "a\\u0000"}]}',
        '{"items": [{"id": "\\ud800"}]}',
        '{"items": [], "has_more": true}',
        '{"items": [], "has_more": true, "cursor": "here"}',
        '{"items": [], "cursor": "\\u0000"}',
        "[" * 10_000,
    ],
)
def test_an_answer_that_is_no_page_is_refused_without_quoting_it(body: str) -> None:
    with pytest.raises(module.PartnerAnswerInvalid, match="the integration crm") as caught:
        read(body)
    assert caught.value.non_retryable
    assert "no id" not in caught.value.message


@pytest.mark.usefixtures("worker")
async def test_strange_records_are_kept_as_far_as_they_can_be(
    saas: Client, database: Database, partner: Partner
) -> None:
    body = (
        '{"items": [{"id": "a", "\\u0000x": ["\\u0000", {"deep": NaN, "big": 1e999}]},'
        ' {"id": "b", "n": 1}, {"id": "b", "n": 2}, {"id": "=b", "n": "José"}], "unknown": 1}'
    )
    partner.instead = [Response(body)]
    acme = await set_up(database, "acme", partner.url)
    assert (await sync(saas, "acme", acme)).records == 3
    records = await records_of(database, "acme")
    assert records["a"] == {"id": "a", "\ufffdx": ["\ufffd", {"deep": None, "big": None}]}
    assert records["b"]["n"] == 2
    assert json.dumps(records["=b"], ensure_ascii=False) == '{"n": "José", "id": "=b"}'


@pytest.mark.usefixtures("worker")
async def test_what_is_missing_is_named(
    saas: Client, database: Database, partner: Partner, secrets: Path
) -> None:
    acme = await set_up(database, "acme", partner.url)
    assert (await failure(saas, "globex", acme)).type == "IntegrationNotFound"
    assert (await integration_of(database, "acme")).status == "never"
    (secrets / "acme" / "integrations.crm").unlink()
    missing = await failure(saas, "acme", acme)
    assert missing.type == "SecretMissing"
    assert "acme/integrations.crm below SECRETS_URL" in missing.message
    assert partner.asked == []


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://169.254.169.254/", "http://x.io/"])
async def test_a_url_that_leads_inside_is_not_called(
    saas: Client, database: Database, url: str
) -> None:
    acme = await set_up(database, "acme", url)
    assert (await failure(saas, "acme", acme)).type == "AddressRefused"


@pytest.mark.usefixtures("worker")
async def test_a_page_that_another_run_has_taken_over_is_not_taken_twice(
    saas: Client, database: Database, partner: Partner
) -> None:
    partner.records = numbered(25)
    acme = await set_up(database, "acme", partner.url)
    partner.meanwhile.append(lambda: sync(saas, "acme", acme))
    # Its first page is the other's; it continues after the last page, where nothing is new.
    assert await sync(saas, "acme", acme) == SyncReport(pages=1, records=0)
    assert (await integration_of(database, "acme")).cursor == "25"
    assert len(await records_of(database, "acme")) == 25


@pytest.mark.usefixtures("worker")
async def test_many_pages_go_on_in_a_new_run_with_their_counts(
    saas: Client, database: Database, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server suggests it after thousands of events.
    monkeypatch.setattr(
        workflow.Info,
        "is_continue_as_new_suggested",
        lambda info: info.get_current_history_length() > 10,
    )
    partner.records = numbered(45)
    acme = await set_up(database, "acme", partner.url)
    first = await saas.start_workflow(
        SyncIntegration.run,
        SyncIntegrationInput(tenant_id="acme", integration_id=acme),
        id="acme/integrations.sync/continued",
        task_queue=Queue.BULK,
    )
    assert await first.result() == SyncReport(pages=5, records=45)
    newest = saas.get_workflow_handle(first.id)
    assert (await newest.describe()).run_id != first.first_execution_run_id
    assert len(partner.asked) == 5


@pytest.mark.parametrize("url", ["https://shop.example/a", "https://SHOP.example.:8443/b"])
def test_a_partner_has_one_rate_under_all_its_names(url: str) -> None:
    assert module._partner(url) == "shop.example"


async def test_a_sync_waits_for_the_partners_rate_and_the_tenants(
    saas: Client,
    database: Database,
    partner: Partner,
    worker: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[object, ...]] = []

    async def admit(name: str, rate: Rate, *parts: str, **options: object) -> None:
        asked.append((name, rate, *parts))

    monkeypatch.setattr(module, "tenant_rate_limit", admit)
    monkeypatch.setattr(module, "platform_rate_limit", admit)
    integration_id = await set_up(database, "acme", partner.url)
    report = await sync(saas, "acme", integration_id)
    host = urlsplit(partner.url).hostname
    each = [("partner", Rate.per_second(module.TENANT_RATE), host), ("partner", Rate(20), host)]
    assert asked == each * report.pages
