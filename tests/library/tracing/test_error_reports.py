"""Failures and refusals are reported with whose they are, and without what they quote."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker

pytest.importorskip("sentry_sdk")

from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.testing import InMemoryDirectory
from temporal_tenancy.tracing import ErrorReports, start_error_reports
from tests.fixtures.jobs import slow_jobs
from tests.fixtures.jobs.slow_jobs import CANARY, TalkInput, TalkJob
from tests.fixtures.temporal import make_worker


class Server:
    """A server that takes envelopes, as Sentry's does."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                bodies.append(body.decode())
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/7"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of all envelopes: a header, and for each item a header and a body."""
        found = []
        for body in self.bodies:
            lines = [json.loads(line) for line in body.splitlines() if line]
            items = zip(lines[1::2], lines[2::2], strict=True)
            found += [item for header, item in items if header["type"] == "event"]
        return found

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def reports(server: Server) -> Iterator[ErrorReports]:
    reports = start_error_reports(server.dsn, worker="w1")
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield reports
    logging.getLogger().setLevel(level)
    reports.stop()


@pytest.fixture
async def talking(client: Client, queue: str) -> AsyncIterator[Worker]:
    async with make_worker(
        client,
        queue,
        workflows=slow_jobs.WORKFLOWS,
        activities=slow_jobs.ACTIVITIES,
        max_cached_workflows=0,
    ) as running:
        yield running


async def fail(client: Client, worker: Worker) -> str:
    id = f"acme/test.talk/{worker.task_queue}"
    with pytest.raises(WorkflowFailureError):
        await client.execute_workflow(
            TalkJob.run,
            TalkInput(tenant_id="acme", fail=True),
            id=id,
            task_queue=worker.task_queue,
        )
    return id


async def test_a_failure_is_reported_with_whose_it_is(
    client: Client, talking: Worker, server: Server, reports: ErrorReports
) -> None:
    id = await fail(client, talking)
    reports.stop()
    [failed] = server.events  # one of the activity, none of the run that it failed
    expected = {
        "tenant_id": "acme",
        "job": "test.talk",
        "workflow_id": id,
        "attempt": "1",
        "activity": "talk",
        "error_type": "WentWrong",
        "worker": "w1",
    }
    assert failed["tags"].items() >= expected.items()
    [value] = failed["exception"]["values"]
    assert (value["type"], value["value"]) == ("ApplicationError", "it went wrong")
    assert value["stacktrace"]["frames"][-1]["function"] == "talk"
    text = "\n".join(server.bodies)
    assert CANARY not in text  # a local variable, and an argument
    for absent in ("vars", "request", "user", "extra"):
        assert f'"{absent}"' not in text
    assert failed["breadcrumbs"] == {"values": []}


async def test_a_refusal_is_reported(
    client: Client,
    talking: Worker,
    server: Server,
    reports: ErrorReports,
    directory: InMemoryDirectory,
) -> None:
    directory.set_status("acme", TenantStatus.SUSPENDED)
    await fail(client, talking)
    reports.stop()
    [refused] = [each for each in server.events if each["tags"]["event"] == "activity.refused"]
    assert refused["tags"]["tenant_id"] == "acme"
    assert refused["logentry"]["message"].startswith("activity.refused: TenantSuspended: acme is")


def test_the_words_of_other_errors_stay_here(server: Server, reports: ErrorReports) -> None:
    payload = f"canary{time.monotonic_ns()}"  # not in the source, which frames show
    try:
        try:
            int(payload)
        except ValueError as error:
            raise KeyError(payload) from error
    except KeyError:
        logging.getLogger("somewhere").exception("it failed")
    reports.stop()
    [event] = server.events
    values = [(each["type"], each["value"]) for each in event["exception"]["values"]]
    assert values == [("ValueError", "***"), ("KeyError", "***")]
    assert payload not in "\n".join(server.bodies)


def test_a_server_that_is_away_holds_nobody_up() -> None:
    reports = start_error_reports("http://public@127.0.0.1:9/7")
    began = time.monotonic()
    for _ in range(100):
        logging.getLogger("somewhere").error("it failed", exc_info=ValueError("x"))
    assert time.monotonic() - began < 5
    reports.stop()
    assert time.monotonic() - began < 10


def test_an_address_that_is_none_is_refused_without_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        start_error_reports("https://secret-key")
    assert "secret-key" not in str(refused.value)
