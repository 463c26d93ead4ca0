"""One trace from a request through the outbox, the relay and the workflow to its SQL."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.worker import Replayer

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry import baggage, context
from opentelemetry.trace import StatusCode

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core.trace_context import (
    current_traceparent,
    span,
    trace_ids,
    use_tracer,
)
from temporal_tenancy.outbox import Relay
from temporal_tenancy.outbox.relay.connections import relay_database
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.tracing import start_tracing
from temporal_tenancy.tracing._sql import described
from tests.fixtures.app import app_plugin, app_worker
from tests.fixtures.jobs import relay_jobs
from tests.fixtures.jobs.relay_control import Control
from tests.fixtures.log_lines import plain_log_lines
from tests.fixtures.postgres import within
from tests.fixtures.relay import OPTIONS, ask, running, until_effects, until_messages
from tests.library.tracing.collected import Collected, text_of, trace_of

pytestmark = pytest.mark.usefixtures("two_tenants")
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tracing.md"
ATTRIBUTES = "\n".join(
    row.split("|")[1]
    for row in PAGE.read_text().split("## Spans")[0].splitlines()
    if row.startswith("| `")
)
OTHERS = f"00-{'ab' * 16}-{'cd' * 8}-01"
_COLLECTED = Collected()


@pytest.fixture
def collected() -> Iterator[Collected]:
    """The process's spans; tracing is on during the test."""
    _COLLECTED.tracing = start_tracing("tests", exporter=_COLLECTED)
    use_tracer(_COLLECTED.tracing)
    _COLLECTED.spans.clear()
    yield _COLLECTED
    use_tracer(None)


@pytest.fixture(params=["tenancy first", "tracing first"])
async def traced_app(
    request: pytest.FixtureRequest,
    temporal: TemporalDevServer,
    database: Database,
    database_urls: Any,
    namespace: str,
    collected: Collected,
    work_control: Control,
) -> AsyncIterator[tuple[Client, Relay]]:
    """A client and a relay with both plugins, in either order, and a worker that replays."""
    assert collected.tracing is not None

    async def connected(own: Database) -> Client:
        plugins = [app_plugin(own), collected.tracing.plugin]  # type: ignore[union-attr]
        if request.param == "tracing first":
            plugins.reverse()
        return await Client.connect(temporal.address, namespace=namespace, plugins=plugins)

    client = await connected(database)
    relays = relay_database(database_urls.relay)
    relay = Relay(await connected(relays), database_urls.relay, options=OPTIONS)
    async with app_worker(
        client,
        workflows=relay_jobs.WORKFLOWS,
        activities=relay_jobs.ACTIVITIES,
        max_cached_workflows=0,
    ):
        yield client, relay
    await relays.dispose()


async def test_a_request_is_one_trace_down_to_its_sql(
    traced_app: tuple[Client, Relay], database: Database, collected: Collected
) -> None:
    client, relay = traced_app
    with span("POST /jobs", "server", parents=()) as request:
        trace_id = trace_ids()["trace_id"]
        request.describe(**{"tenancy.tenant_id": "acme"})
        token = context.attach(baggage.set_baggage("secret", "of this request"))
        await ask(database, "acme", key="k1")
        context.detach(token)
    async with running(relay):
        await until_effects(database, "acme", 1)
        await client.get_workflow_handle("acme/test.note/k1").result()
    spans = collected.of_trace(trace_id)
    names = [each.name for each in spans]
    for wanted in (
        "POST /jobs",
        "INSERT tenancy.outbox_messages",
        "relay test.note",
        "StartWorkflow:test.note",
        "RunWorkflow:test.note",
        "StartActivity:note",
        "RunActivity:note",
    ):
        assert names.count(wanted) == 1, (wanted, names)
    by_name = {each.name: each for each in spans}
    inside = [each for each in spans if _parent(each) == _id(by_name["RunActivity:note"])]
    assert {each.attributes["db.operation.name"] for each in inside} >= {"INSERT"}  # type: ignore[index]
    for each in spans:
        assert each.attributes is not None
        assert each.attributes.get("tenancy.tenant_id") == "acme", each.name
    ran = by_name["RunActivity:note"].attributes or {}
    assert (ran["tenancy.job"], ran["tenancy.workflow_id"]) == ("test.note", "acme/test.note/k1")
    assert ran["tenancy.attempt"] == 1
    assert "of this request" not in text_of(spans)
    history = await client.get_workflow_handle("acme/test.note/k1").fetch_history()
    assert b"of this request" not in b"".join(e.SerializeToString() for e in history.events)
    await Replayer(workflows=relay_jobs.WORKFLOWS, plugins=[app_plugin(database)]).replay_workflow(
        history
    )


async def test_the_page_names_the_attributes_of_a_run(
    traced_app: tuple[Client, Relay], database: Database, collected: Collected
) -> None:
    """Of one that fails too; those of requests are the reference SaaS's."""
    _, relay = traced_app
    with span("POST /jobs", "server", parents=()):
        trace_id = trace_ids()["trace_id"]
        await ask(database, "acme", key="good")
        await ask(database, "acme", key="bad", input={"text": "refuse"})
    async with running(relay):
        await until_effects(database, "acme", 1)
        await until_messages(
            database, "acme", lambda found: any(m.status == "dead_letter" for m in found)
        )
    spans = collected.of_trace(trace_id)
    found = {name for each in spans for name in each.attributes or {}}
    documented = set(re.findall(r"`([a-z_.]+\.[a-z_.]+)`", ATTRIBUTES))
    of_requests = {name for name in documented if name.startswith("http.")}
    ours = {name for name in found if name.partition(".")[0] in ("tenancy", "db", "error")}
    assert ours == documented - of_requests
    for each in spans:
        failed = each.status.status_code is StatusCode.ERROR
        assert ("error.type" in (each.attributes or {})) is failed, each.name
        if each.name.startswith(("relay", "StartWorkflow", "RunWorkflow", "RunActivity")):
            assert (each.attributes or {})["tenancy.job"] == "test.note", each.name
    assert any("error.type" in (each.attributes or {}) for each in spans)


async def test_a_message_without_a_trace_begins_one(
    traced_app: tuple[Client, Relay], database: Database, collected: Collected
) -> None:
    """As by a program of the previous release; and a row that a person has written."""
    _, relay = traced_app
    use_tracer(None)
    await ask(database, "acme", key="old")
    use_tracer(_COLLECTED.tracing)
    with within(database, "globex"):
        async with tenant_session() as session:
            await session.execute(
                text("""
                    insert into tenancy.outbox_messages (tenant_id, job, key, payload, traceparent)
                    values ('globex', 'test.note', 'odd', '{}', '../../etc/passwd')
                """)
            )
    async with running(relay):
        await until_effects(database, "acme", 1)
        await until_effects(database, "globex", 1)
    collected.tracing.flush()  # type: ignore[union-attr]
    roots = [each for each in collected.spans if each.name == "relay test.note"]
    assert [each.parent for each in roots] == [None, None]
    assert len({trace_of(each) for each in roots}) == 2


async def test_log_lines_have_the_ids_of_the_trace(collected: Collected) -> None:
    import logging

    with plain_log_lines() as lines:
        logging.getLogger("test").info("outside")
        with span("inside"):
            ids = trace_ids()
            logging.getLogger("test").info("inside")
    assert {name: lines.one("inside")[name] for name in ("trace_id", "span_id")} == ids
    assert "trace_id" not in lines.one("outside")
    assert current_traceparent() is None


@pytest.mark.usefixtures("collected")
def test_a_tracer_of_a_name_is_made_once_and_one_with_attributes_is_its_own() -> None:
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    assert trace.get_tracer("test") is trace.get_tracer("test")
    assert trace.get_tracer("test") is not trace.get_tracer("test", "2")
    of_a_part = provider.get_tracer("test", attributes={"part": "a"})
    assert of_a_part is not provider.get_tracer("test", attributes={"part": "b"})


def test_an_error_on_a_span_is_its_type_alone(collected: Collected) -> None:
    from opentelemetry import trace

    tracer = trace.get_tracer("test")
    with pytest.raises(ValueError), tracer.start_as_current_span("failing"):  # noqa: PT011, PT012
        trace_id = trace_ids()["trace_id"]
        raise ValueError("canary-77")
    [failing] = collected.of_trace(trace_id)
    assert "canary-77" not in text_of([failing])
    assert failing.status.description == "ValueError"
    assert failing.events[0].attributes == {
        "exception.type": "ValueError",
        "exception.escaped": "False",
    }


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("http.route", True),
        ("server.address", True),
        ("url.path", False),
        ("url.query", False),
        ("url.full", False),
        ("http.target", False),
        ("http.request.header.authorization", False),
        ("db.query.text", False),
        ("db.query.parameter.0", False),
        ("db.statement", False),
        ("db.collection.name", True),
    ],
)
def test_what_can_hold_a_payload_is_not_exported(
    collected: Collected, name: str, stays: bool
) -> None:
    with span("request", "server", parents=()) as request:
        trace_id = trace_ids()["trace_id"]
        request.describe(**{name: "canary-78"})
    assert ("canary-78" in text_of(collected.of_trace(trace_id))) is stays


@pytest.mark.parametrize(
    ("statement", "operation", "table"),
    [
        ("select 1", "SELECT", None),
        ("SELECT a FROM t WHERE b = 'from secret'", "SELECT", "t"),
        ("  -- note\n update s.t set a = 1", "UPDATE", "s.t"),
        ('insert into "s"."t" (a) values (1)', "INSERT", "s.t"),
        ("with x as (select 1 from y) insert into z select 1", "INSERT", "z"),
        ("with x as (select 1 from y) select * from x", "SELECT", "y"),
        ("delete from only t", "DELETE", "t"),
        ("", "SQL", None),
        ("/* canary */ select 'canary'", "SELECT", None),
    ],
)
def test_a_statement_is_described_without_its_values(
    statement: str, operation: str, table: str | None
) -> None:
    assert described(statement) == (operation, table)


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    program = """
import time
from temporal_tenancy.core.trace_context import span
from temporal_tenancy.tracing import start_tracing
tracing = start_tracing("away")
began = time.monotonic()
for _ in range(10_000):
    with span("work", "server", parents=()):
        pass
assert time.monotonic() - began < 20, "the spans waited"
began = time.monotonic()
tracing.stop()
assert time.monotonic() - began < 5, "the end waited"
import os; os._exit(0)
"""
    import os
    import socket

    with socket.socket() as listener:  # accepts connections and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) < 50, done.stderr


def test_the_library_does_without_the_extra() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
import temporal_tenancy, temporal_tenancy.sdk.logs, temporal_tenancy.outbox
from temporal_tenancy import TenancyPlugin
from temporal_tenancy.outbox import enqueue, Relay
from temporal_tenancy.core.errors import MissingExtra
try:
    from temporal_tenancy.tracing import start_tracing
except MissingExtra as error:
    assert "temporal-tenancy[tracing]" in str(error), error
else:
    raise AssertionError
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _id(each: Any) -> int:
    return int(each.get_span_context().span_id)


def _parent(each: Any) -> int | None:
    return None if each.parent is None else int(each.parent.span_id)
