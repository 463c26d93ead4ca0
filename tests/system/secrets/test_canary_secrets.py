"""Secrets and data are pushed through every path that fails, and searched for everywhere.

Where a tenant's data belongs: the inputs of its runs, the payload of its messages and dead letters,
and its own tables and objects. The words of an exception that no code has written for people are
part of its own run's failure, dead letter, ledger row and message; they are in no log line. A
credential is nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import make_url
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from dev.devstack.postgres import DatabaseUrls
from saas.services.webhooks import sign
from temporal_tenancy import tenant_folder, tenant_session
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.outbox import enqueue
from temporal_tenancy.postgres.database import Database
from tests.fixtures.outside import serving
from tests.fixtures.postgres import within
from tests.fixtures.starter import Starter
from tests.fixtures.web import CONTACTS
from tests.fixtures.worker_process import ROOT, StartWorker, WorkerProcess
from tests.system.secrets import spilling_jobs
from tests.system.secrets.evidence import Evidence, add_histories, add_tables
from tests.system.secrets.spilling_jobs import CREDENTIAL, ROW_FILE, Spill

MODULE: Final = "tests.system.secrets.spilling_worker"
STARTER: Final = (str(ROOT / "tests/system/secrets/spilling_starter.py"),)
TENANT_TABLES: Final = "tables."
STORAGE: Final = "object storage"
NOWHERE: Final[frozenset[str]] = frozenset()
# The tenant's own data.
DATA: Final = frozenset(
    {
        "inputs",
        "outbox_messages.payload",
        "dead_letters.payload",
        TENANT_TABLES,
        STORAGE,
        "command dead-letters show",  # its payload
        "command explain",  # the command that runs it again
    }
)
# The words of an exception, in what belongs to the run that it ended.
WORDS: Final = DATA | {
    "history",
    "outbox_messages.error_message",
    "dead_letters.message",
    "ledger.reason",
    "command dead-letters list",
    "command outbox list",
}


@dataclass
class Canaries:
    """Made-up secrets and data by name, each with the places where it belongs."""

    texts: dict[str, str] = field(default_factory=dict)
    belongs: dict[str, frozenset[str]] = field(default_factory=dict)

    def make(self, name: str, belongs: frozenset[str] = NOWHERE) -> str:
        """Makes one up."""
        self.texts[name] = f"canary{secrets.token_hex(10)}"
        self.belongs[name] = belongs
        return self.texts[name]

    def out_of_place(self, evidence: Evidence) -> dict[str, list[str]]:
        """Returns where each was found that does not belong there."""
        found = {
            name: sorted(evidence.with_canary(text) - self.belongs[name])
            for name, text in self.texts.items()
        }
        return {name: places for name, places in found.items() if places}


@dataclass
class Observer:
    """A collector of spans, and a server for error reports."""

    is_used: bool = find_spec("opentelemetry.sdk") is not None
    taken: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str | None] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        """Keeps what is sent."""
        place = "spans" if request.url.path.endswith("/traces") else "error reports"
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.taken[place] = self.taken.get(place, b"") + body
        return PlainTextResponse("")


@dataclass
class Stage:
    """The running processes, and what is pushed through them."""

    worker: WorkerProcess
    relay: WorkerProcess
    web: WorkerProcess
    client: Client  # without the plugin
    database: Database
    keys: Mapping[str, str]  # API keys by tenant
    partner: str  # URL
    starter: Starter
    secrets: Path  # the folder of acme's credentials
    observer: Observer
    canaries: Canaries


@pytest.fixture
async def partner(canaries: Canaries) -> AsyncIterator[str]:
    """A partner that refuses every request, and quotes what it was sent."""
    body = canaries.make("a partner's answer")

    async def refuse(request: Request) -> Response:
        return PlainTextResponse(f"{body} {request.headers.get('authorization')}", 403)

    async with serving(Starlette(routes=[Route("/records", refuse)])) as port:
        yield f"http://127.0.0.1:{port}/records"


@pytest.fixture
async def observer() -> AsyncIterator[Observer]:
    observer = Observer()
    routes = [Route("/{path:path}", observer.take, methods=["POST"])]
    async with serving(Starlette(routes=routes)) as port:
        if observer.is_used:
            observer.variables = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "SENTRY_DSN": f"http://public@127.0.0.1:{port}/7",
            }
        yield observer


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
async def stage(
    start_worker: StartWorker,
    starter: Starter,
    web_environ: dict[str, str],
    web_tenants: dict[str, str],
    raw_client: Client,
    namespace: str,
    database: Database,
    database_urls: DatabaseUrls,
    tmp_path: Path,
    partner: str,
    observer: Observer,
    canaries: Canaries,
) -> Stage:
    row = tmp_path / "row.txt"
    row.write_text(canaries.make("a row that no input has", WORDS))
    folder = tmp_path / "secrets" / tenant_folder("acme")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CREDENTIAL).write_text(canaries.make("a credential in an exception"))
    variables = {
        **web_environ,
        **observer.variables,
        ROW_FILE: str(row),
        "OUTGOING_HTTP_ALLOW": partner.removeprefix("http://").partition("/")[0],
        "RELAY_ATTEMPTS": "1",
        "RELAY_DATABASE_URL": database_urls.relay,
        "LOG_LEVEL": "debug",
        "METRICS_TOKEN": canaries.make("the token of a scrape"),
        "METRICS_COLLECT_SECONDS": "0.2",
        "WEB_HEALTH_PORT": "0",
    }
    started = (
        start_worker("--queue", "default,bulk", module=MODULE, **variables),
        start_worker("--relay", module=MODULE, **variables),
        start_worker(
            "--port", "0", module="processes.web", **{**variables, "RELAY_DATABASE_URL": None}
        ),
    )
    worker, relay, web = [await process.until_ready() for process in started]
    client = await Client.connect(raw_client.service_client.config.target_host, namespace=namespace)
    return Stage(
        *(worker, relay, web, client, database, web_tenants),
        *(partner, starter, folder, observer, canaries),
    )


async def test_no_secret_is_found_where_it_does_not_belong(
    stage: Stage, database_urls: DatabaseUrls, start_worker: StartWorker
) -> None:
    runs = await start_runs(stage)
    await ask_the_door(stage)
    evidence = Evidence()
    await refuse_processes(stage, start_worker, database_urls, evidence)
    await until_ended(stage, runs)
    # Of the runs but the open one, the messages, the sync and the tenants of the fan-out.
    await fan_out(stage, evidence)
    letters = await until_letters(database_urls.superuser, len(runs) - 1 + 3 + 1 + 2)
    await add_commands(stage, evidence, letters)
    await add_histories(evidence, stage.client)
    add_tables(evidence, read_tables(database_urls.superuser))
    for name, process in (("worker", stage.worker), ("relay", stage.relay), ("web", stage.web)):
        await add_metrics(stage, evidence, name, process)
        process.send(signal.SIGTERM)
    for name, process in (("worker", stage.worker), ("relay", stage.relay), ("web", stage.web)):
        await process.exit_code()
        evidence.add(f"log of the {name}", process.text)
    for path in (stage.secrets.parents[1] / "storage").rglob("*"):
        evidence.add(STORAGE, path.read_bytes() if path.is_file() else path.name)
    for place, content in stage.observer.taken.items():
        evidence.add(place, content)

    assert stage.canaries.out_of_place(evidence) == {}
    # The search can find each: these are where they belong.
    for name, place in (
        ("way value", "inputs"),
        ("way value", "outbox_messages.payload"),  # a dead letter's
        ("together value", "outbox_messages.payload"),
        ("a row that no input has", "history"),
        ("a row that no input has", "dead_letters.message"),
        ("a row that no input has", "command explain"),
        ("a row of a file", STORAGE),
        ("a webhook's body", TENANT_TABLES),
    ):
        assert place in evidence.with_canary(stage.canaries.texts[name]), (name, place)
    for name, series in (
        ("worker", b'tenancy_activity_attempts_total{job="test.spill"'),
        ("relay", b'tenancy_dead_letters_open{job="test.spill"'),
        ("web", b"tenancy_process_info"),
    ):
        assert series in evidence.places[f"metrics of the {name}"]
    if stage.observer.is_used:
        assert b"RunActivity:spill" in evidence.places["spans"]
        assert b'"activity.failed"' in evidence.places["error reports"]
    assert "Failed activation" in stage.worker.text
    assert len(stage.worker.lines("activity.failed")) >= len(spilling_jobs.WAYS)


async def start_runs(stage: Stage) -> list[WorkflowHandle[Any, Any]]:
    """Starts a run for each way to fail, by hand and by messages; the last one never ends."""
    ways = [("test.spill", way) for way in (*spilling_jobs.WAYS, "sql", "sql_row")]
    ways += [("test.spill_in_a_thread", "value"), ("test.spill", "workflow")]
    started = []
    for job, way in ways:
        in_thread = " in a thread" if job.endswith("thread") else ""
        text = stage.canaries.make(f"way {way}{in_thread}", WORDS_OF_WAYS.get(way, DATA))
        key = f"{way}{in_thread.replace(' ', '-')}"
        started.append(
            await stage.client.start_workflow(
                job,
                {"tenant_id": "acme", "way": way, "text": text},
                id=str(WorkflowId("acme", job, key)),
                task_queue="default",
            )
        )
    with within(stage.database, "acme"):
        for way in ("value", "key"):
            text = stage.canaries.make(f"together {way}", DATA)
            async with tenant_session():
                await enqueue("test.spill_together", Spill(tenant_id="acme", way=way, text=text))
        # A message that no release of the job has written.
        async with tenant_session():
            text = stage.canaries.make("a message's payload", DATA)
            await enqueue("test.spill", Spill(tenant_id="acme", way="value", text=text), key="kept")
    return started


# A database's error quotes a key that the tenant already has in its table.
WORDS_OF_WAYS: Final[Mapping[str, frozenset[str]]] = {
    "header": DATA,
    "url": DATA,
}


async def ask_the_door(stage: Stage) -> None:
    """Sends secrets and data with requests, most of which the door refuses."""
    make = stage.canaries.make
    bearer = {"Authorization": f"Bearer {stage.keys['acme']}"}
    async with httpx.AsyncClient(base_url=stage.web.url, timeout=30) as client:

        async def ask(method: str, path: str, **options: Any) -> httpx.Response:
            headers = {**bearer, **options.pop("headers", {})}
            return await client.request(method, path, headers=headers, **options)

        await ask("GET", "/me", headers={"Authorization": f"Bearer tk_{make('an API key')}"})
        await ask("GET", "/me", headers={"Cookie": f"session={make('a cookie')}"})
        await ask("GET", "/me", headers={"X-Secret": make("a header")})
        await ask("GET", f"/search?q={make('words of a search')}&limit=wrong")
        await ask("GET", f"/downloads/{make('a link')}")
        await ask("POST", f"/jobs/{make('the name of a job')}", json={})
        wrong = {"input": {"period": make("the input of a request")}}
        await ask("POST", "/jobs/billing.cycle", json=wrong)
        for name, body in (
            ("a body that is no JSON", b'{"x": "%s'),
            ("a webhook that is not signed", b'{"type": "%s"}'),
        ):
            path = "/webhooks/payments/acme" if "webhook" in name else "/jobs/billing.cycle"
            signed = {"webhook-signature": f"v1,{make(f'the signature of {name}')}"}
            await ask("POST", path, content=body % make(name).encode(), headers=signed)
        credential = make("a credential of an integration")
        put = {"url": stage.partner, "credential": credential}
        answer = await ask("PUT", "/integrations/crm", json=put)
        assert answer.status_code in (200, 201), answer.text
        assert (await ask("POST", "/integrations/crm/sync")).status_code == 202
        await ask("PUT", "/integrations/shop", json={**put, "credential": [make("no credential")]})
        bad = f"{make('a row of a file', DATA)},Nobody\n".encode()
        answer = await ask("POST", "/imports", files={"file": CONTACTS + bad})
        assert answer.status_code == 202, answer.text
        imported = f"/imports/{answer.json()['id']}"
        await ask(
            "POST", "/imports", files={"file": make("a file without a header", WORDS).encode()}
        )
        body = json.dumps(
            {
                "type": "subscription.updated",
                "timestamp": "2026-11-22T00:00:00Z",
                "data": {"plan": make("a webhook's body", DATA)},
            }
        ).encode()
        secret = f"whsec_{base64.b64encode(make('the secret of a webhook').encode()).decode()}"
        # What is kept is the base64 of it.
        stage.canaries.texts["the secret of a webhook"] = secret
        (stage.secrets / "payments.webhook").write_text(secret)
        signed = sign(secret, "evt_canary", body, datetime.now(UTC))
        answer = await client.post("/webhooks/payments/acme", content=body, headers=signed)
        assert answer.status_code == 200, answer.text
        while (state := (await ask("GET", imported)).json())["status"] == "processing":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert (state["status"], state["rejected"]) == ("completed", 1), state


async def refuse_processes(
    stage: Stage, start_worker: StartWorker, urls: DatabaseUrls, evidence: Evidence
) -> None:
    """Starts a process of each kind with a wrong password, and a command with wrong input."""
    refused = []
    for arguments, module, setting, url in (
        ((), "worker", "TENANT_DATABASE_URL", urls.tenant),
        (("--relay",), "worker", "RELAY_DATABASE_URL", urls.relay),
        (("--port", "0"), "processes.web", "PLATFORM_DATABASE_URL", urls.platform),
    ):
        password = stage.canaries.make(f"the password of {setting}")
        wrong = make_url(url).set(password=password).render_as_string(hide_password=False)
        process = start_worker(*arguments, module=module, **{setting: wrong})
        refused.append((process, f"log of a {module} with a wrong {setting}"))
    for process, place in refused:
        assert await process.exit_code() != 0
        evidence.add(place, process.text)
    password = stage.canaries.make("the password of a command")
    wrong = make_url(urls.platform).set(password=password).render_as_string(hide_password=False)
    said = await stage.starter("tenants", "list", PLATFORM_DATABASE_URL=wrong)
    assert said.code == 3
    evidence.add("command tenants list", said.out + said.err)
    text = stage.canaries.make("the input of a command")
    wrong_input = json.dumps({"way": [text], "text": "x"})
    said = await stage.starter(
        *("run", "test.spill", "--tenant", "acme", "--key", "k", "--input", wrong_input),
        program=STARTER,
    )
    assert said.code == 2
    evidence.add("command run", said.out + said.err)


async def until_ended(stage: Stage, runs: list[WorkflowHandle[Any, Any]]) -> None:
    """Waits until each run has failed, but the last: its task fails again and again."""
    *ending, stuck = runs
    for run in ending:
        with pytest.raises(WorkflowFailureError):
            await run.result()
    while "Failed activation" not in stage.worker.text:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await stuck.terminate()


async def fan_out(stage: Stage, evidence: Evidence) -> None:
    """Runs a job for each tenant, which fails with a credential in its error."""
    said = await stage.starter(
        *("fan-out", "test.spill_month", "--tick", "2026-10", "--wait", "--json"), program=STARTER
    )
    evidence.add("command fan-out", said.out + said.err)
    assert said.code == 1, said
    assert said.document["failed"] == 2, said


async def add_metrics(stage: Stage, evidence: Evidence, name: str, process: WorkerProcess) -> None:
    """Adds what a process answers to a scrape with the token, and to one with another."""
    right = stage.canaries.texts["the token of a scrape"]
    async with httpx.AsyncClient(base_url=process.health, timeout=30) as client:
        for token in (right, stage.canaries.make(f"a wrong token of a scrape of the {name}")):
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == (200 if token == right else 401)
            evidence.add(f"metrics of the {name}", answer.content)


async def until_letters(url: str, count: int) -> list[UUID]:
    """Waits for as many dead letters; returns their ids."""
    with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(False)) as db:
        db.autocommit = True
        deadline = time.monotonic() + 60
        while True:
            found = [row[0] for row in db.execute("select id from tenancy.dead_letters")]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, (len(found), count)
            await asyncio.sleep(0.1)


async def add_commands(stage: Stage, evidence: Evidence, letters: list[UUID]) -> None:
    """Adds what the commands say of the runs, dead letters, ticks and messages."""
    ways = ("row", "value", "credential", "sql_row", "workflow")
    runs = [str(WorkflowId("acme", "test.spill", way)) for way in ways]
    commands = [
        ("dead-letters", "list"),
        ("ticks", "show", "test.spill_month", "--tick", "2026-10"),
        ("ticks", "missed"),
        ("outbox", "list"),
        ("integrations", "list", "--tenant", "acme"),
        ("settings",),
        *(("explain", id) for id in runs),
        *(("dead-letters", "show", str(id)) for id in letters[:3]),
    ]
    for command in commands:
        said = await stage.starter(*command, "--json", program=STARTER)
        name = " ".join(command[: 1 if command[0] == "explain" else 2])
        evidence.add(f"command {name}", said.out + said.err)


def read_tables(url: str) -> dict[str, list[dict[str, Any]]]:
    """Returns every row, by table of the library; those of tenants' tables together."""
    found: dict[str, list[dict[str, Any]]] = {}
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, row_factory=dict_row) as superuser:
        tables = superuser.execute(
            "select schemaname, tablename from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        for table in tables:
            query = sql.SQL("select * from {}").format(sql.Identifier(*table.values()))
            rows = superuser.execute(query).fetchall()
            if table["schemaname"] == "tenancy":
                found[table["tablename"]] = rows
            else:
                values = [value for row in rows for value in row.values()]
                known = found.setdefault("tables", [])
                known += [{"": value} for value in values]
    return found
