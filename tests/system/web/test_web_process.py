"""`python -m processes.web` as an operator runs it, and its page as a person uses it."""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from dev.devstack.errors import PartMissing
from dev.devstack.postgres import DatabaseUrls
from docs.screenshots import CHROMIUM_FLAGS, find_chromium
from saas.database.contacts import Import
from temporal_tenancy.metering import usage
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.raw_http import connected
from tests.fixtures.web import CONTACTS
from tests.fixtures.worker_process import StartWorker, WorkerProcess

ROWS = 3_000
BAD_ROW = "no-address,Nobody\n"


@pytest.fixture
def chromium() -> str:
    try:
        found = find_chromium()
    except PartMissing as error:
        pytest.skip(str(error))
    pytest.importorskip("playwright")
    return found


@pytest.fixture
async def door_process(start_worker: StartWorker, web_environ: dict[str, str]) -> WorkerProcess:
    process = start_worker("--port", "0", module="processes.web", **web_environ)
    return await process.until_ready()


async def test_it_answers_ends_streams_and_stops_in_order(
    door_process: WorkerProcess, web_tenants: dict[str, str], database: Database
) -> None:
    before = datetime.now(UTC)
    headers = {"Authorization": f"Bearer {web_tenants['acme']}"}
    async with httpx.AsyncClient(base_url=door_process.health, headers=headers) as client:
        for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            assert "server" not in answer.headers
        started = await client.post("/imports", files={"file": CONTACTS})
        async with client.stream("GET", started.json()["links"]["events"]) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: progress"
            door_process.send(signal.SIGTERM)
            rest = [line async for line in lines]
    assert not any(line.startswith("event") for line in rest)
    assert await door_process.exit_code() == 0
    assert door_process.lines("web.stopped")
    answered = door_process.lines("web.answered")
    assert {line["tenant_id"] for line in answered if line["route"] == "/imports"} == {"acme"}
    assert web_tenants["acme"] not in door_process.text
    metered = await usage(
        database, since=before - timedelta(hours=1), until=before + timedelta(hours=1)
    )
    [acme] = [row.used for row in metered if row.name == "acme"]
    assert acme.database_seconds > 0
    assert acme.worker_seconds == 0  # a door runs no activities


async def test_it_is_not_ready_from_the_signal_on_and_answers_until_it_drains(
    start_worker: StartWorker, web_environ: dict[str, str], web_tenants: dict[str, str]
) -> None:
    variables = {**web_environ, "WEB_HEALTH_PORT": "0", "DRAIN_DELAY_SECONDS": "600"}
    process = start_worker("--port", "0", module="processes.web", **variables)
    await process.until_ready()
    door = process.lines("web.started")[0]["url"]
    headers = {"Authorization": f"Bearer {web_tenants['acme']}"}
    async with httpx.AsyncClient(headers=headers) as client:
        for place in (door, process.health):
            assert (await client.get(f"{place}/readyz")).status_code == 200
        process.send(signal.SIGTERM)
        await process.until_line("web.stopping")
        for place in (door, process.health):
            answer = await client.get(f"{place}/readyz")
            assert answer.status_code == 503
            assert "is stopping" in answer.json()["reasons"][0]
            assert (await client.get(f"{place}/healthz")).status_code == 200
        assert (await client.get(f"{door}/me")).status_code == 200
    process.send(signal.SIGTERM)  # the second one ends it at once
    assert await process.exit_code() == 128 + signal.SIGTERM


async def test_a_thousand_idle_connections_keep_nobody_out(
    door_process: WorkerProcess, web_tenants: dict[str, str]
) -> None:
    """From 20 addresses, so that none exceeds its share; half have sent a part of a head."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    key = f"Authorization: Bearer {web_tenants['acme']}"
    async with AsyncExitStack() as stack:
        for number in range(1_000):
            raw = await stack.enter_async_context(
                connected(door_process.health, f"127.0.1.{number % 20 + 1}")
            )
            if number % 2:
                await raw.send(b"GET / HTTP/1.1\r\nHost: ")
        for source in ("127.0.0.1", "127.0.1.1"):
            async with connected(door_process.health, source) as raw:
                assert await raw.get("/healthz") == 200
                assert await raw.get("/readyz") == 200
                assert await raw.get(f"/imports/{UUID(int=0)}", key) == 404
        door_process.send(signal.SIGTERM)
        assert await door_process.exit_code() == 0


@pytest.mark.parametrize(
    ("variables", "code", "sentence"),
    [
        ({"DATABASE_URL": "postgresql://x:y@localhost/z"}, 2, "ExcessRights: DATABASE_URL is"),
        ({"RELAY_DATABASE_URL": "postgresql://x:y@localhost/z"}, 2, "env -u RELAY_DATABASE_URL "),
        (
            {"RELAY_LISTEN_DATABASE_URL": "postgresql://x:y@localhost/z"},
            2,
            "env -u RELAY_LISTEN_DATABASE_URL ",
        ),
        ({"TRUSTED_PROXIES": "everybody"}, 2, "ConfigurationError: TRUSTED_PROXIES"),
        ({"WEB_CONNECTIONS": "99999999"}, 2, "ConfigurationError: WEB_CONNECTIONS"),
        (
            {"WEB_REQUESTS": "5000", "PLATFORM_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"},
            2,
            "ConfigurationError: WEB_REQUESTS is 5000 and must be less than WEB_CONNECTIONS, ",
        ),
        ({"PLATFORM_DATABASE_URL": None}, 3, "SettingMissing: PLATFORM_DATABASE_URL"),
        ({"WEB_JWT_PUBLIC_KEY": "x"}, 2, "ConfigurationError: WEB_JWT_PUBLIC_KEY"),
        ({"WEB_UPLOAD_MAX_BYTES": "0"}, 2, "WEB_UPLOAD_MAX_BYTES"),
        ({"CONNECTIONS_URL": "s3://x"}, 2, "ConfigurationError: CONNECTIONS_URL must be file:///f"),
        ({"REDIS_URL": "localhost:6379"}, 2, "ConfigurationError: REDIS_URL: the URL of Redis has"),
    ],
)
async def test_what_keeps_it_from_answering_is_one_sentence(
    start_worker: StartWorker, variables: dict[str, str | None], code: int, sentence: str
) -> None:
    process = start_worker("--port", "0", module="processes.web", **variables)
    assert await process.exit_code() == code
    assert sentence in process.text
    assert "Traceback" not in process.text


async def test_a_port_in_use_is_told(
    door_process: WorkerProcess, start_worker: StartWorker
) -> None:
    port = door_process.health.rsplit(":", 1)[-1]
    other = start_worker("--port", port, module="processes.web")
    assert await other.exit_code() == 3
    assert other.text.startswith("PortInUse: ")


async def import_half(database: Database) -> None:
    """Changes the only import like its job, half-way."""
    with within(database, "acme"):
        async with tenant_session() as session:
            found = (await session.scalars(select(Import))).one()
            found.imported, found.position = ROWS // 2, found.size // 2


async def test_a_person_imports_a_file_and_sees_it_progress(
    chromium: str,
    door_process: WorkerProcess,
    start_worker: StartWorker,
    web_environ: dict[str, str],
    web_tenants: dict[str, str],
    database: Database,
    database_urls: DatabaseUrls,
    tmp_path: Path,
) -> None:
    from playwright.async_api import async_playwright, expect

    file = tmp_path / "people.csv"
    rows = "".join(f"p{number}@x.example,P {number}\n" for number in range(ROWS))
    file.write_text(f"email,name\n{rows}{BAD_ROW}")

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=list(CHROMIUM_FLAGS)
        )
        page = await browser.new_page(viewport={"width": 900, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))

        for path in ("/docs", "/pages/search", "/pages/exports", "/"):
            await page.goto(door_process.health + path)
        assert complaints == []
        await page.get_by_label("API key").fill("tk_wrong")
        await page.get_by_label("CSV file").set_input_files(file)
        await page.get_by_role("button", name="Import").click()
        await expect(page.get_by_role("alert")).to_contain_text("valid key")
        await page.get_by_label("API key").fill("\u201ctk_quoted\u201d")
        await page.get_by_role("button", name="Import").click()
        await expect(page.get_by_role("alert")).to_contain_text("Copy it again")

        await page.get_by_label("API key").fill(web_tenants["acme"])
        await page.get_by_role("button", name="Import").click()
        await expect(page.locator("#account")).to_contain_text("Acme")
        status = page.get_by_role("status")
        await expect(status).to_have_text("Importing: 0 %")
        await import_half(database)
        await expect(status).to_have_text("Importing: 50 %")
        await expect(page.locator("#imported")).to_have_text("1,500")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(status).to_have_text("Cancelled: people.csv")

        variables = {**web_environ, "RELAY_DATABASE_URL": database_urls.relay}
        await start_worker(**variables).until_ready()
        await start_worker("--relay", **variables).until_ready()
        await page.get_by_role("button", name="Import").click()
        await expect(status).to_have_text("Done: people.csv", timeout=90_000)
        assert await page.locator("#bar").evaluate("bar => bar.value") == 1
        shown = {
            name: await page.locator(f"#{name}").inner_text()
            for name in ("rows", "imported", "updated", "rejected")
        }
        assert shown == {"rows": "3,001", "imported": "3,000", "updated": "0", "rejected": "1"}
        if picture := os.environ.get("WEB_PAGE_PICTURE"):
            await page.screenshot(path=picture)

        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download the rejected rows").click()
        saved = tmp_path / "rejected.csv"
        await (await waiting.value).save_as(saved)
        assert "no-address" in saved.read_text()

        await page.get_by_role("link", name="Exports").click()
        await expect(page.locator("#account")).to_contain_text("Acme")  # the tab keeps the key
        await page.get_by_role("button", name="Request export").click()
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download Contacts").click(timeout=60_000)
        await (await waiting.value).save_as(saved)
        assert "p2999@x.example" in saved.read_text()

        await page.get_by_role("link", name="Search").click()
        await page.get_by_label("Words").fill('"P 2999"')
        found = page.get_by_role("button", name="Show P 2999")
        while not await found.count():  # the index follows the import
            await page.get_by_role("button", name="Search").click()
            await page.wait_for_timeout(200)
        await found.click()
        await expect(page.locator("#list")).to_contain_text("E-mail")
        await page.set_viewport_size({"width": 360, "height": 640})
        for path in ("/", "/pages/exports", "/pages/search"):
            await page.goto(door_process.health + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path

        kept = await page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
        assert json.loads(kept) == [{}, ""]
        refused = "the server responded with a status of 401"
        assert [each for each in complaints if refused not in each] == []
        assert len(complaints) <= 2  # of the wrong key: whose it is, and the import
        assert all(url.startswith((door_process.health, "blob:", "data:")) for url in asked)
        await browser.close()
    assert web_tenants["acme"] not in door_process.text
