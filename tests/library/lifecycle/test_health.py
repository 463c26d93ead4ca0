"""How a worker process reports whether it can take work."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_tenancy.lifecycle import Health, PortInUse, Scrape, probes, serving
from temporal_tenancy.lifecycle._health import PROBES_MAX_AGE


@dataclass
class FakeWorker:
    task_queue: str = "bulk"
    is_running: bool = True
    is_shutdown: bool = False


class Server:
    """A server that answers or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.asked = 0

    async def probe(self) -> bool:
        self.asked += 1
        return self.answers


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 0.0  # seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(server: Server, worker: FakeWorker, clock: Clock) -> Health:
    made = Health(clock=clock)
    made.workers = [cast(Worker, worker)]
    made.probes = {"Temporal does not answer": server.probe}
    return made


async def get(health: Health, path: str) -> tuple[int, Any]:
    async with serving(health, host="127.0.0.1", port=0) as address, httpx.AsyncClient() as http:
        answer = await http.get(f"{address}{path}")
        return answer.status_code, answer.json()


async def test_it_is_ready_when_workers_poll_and_servers_answer(health: Health) -> None:
    assert await get(health, "/readyz") == (200, {"status": "ready"})
    assert await get(health, "/healthz") == (200, {"status": "ok"})


async def test_it_is_not_ready_before_there_are_workers() -> None:
    reasons = ["the worker is starting"]
    assert await get(Health(), "/readyz") == (503, {"status": "not ready", "reasons": reasons})
    assert (await get(Health(), "/healthz"))[0] == 200


async def test_a_server_that_does_not_answer_is_named(health: Health, server: Server) -> None:
    server.answers = False
    assert await health.reasons() == ["Temporal does not answer"]


async def test_a_server_that_hangs_does_not_answer(worker: FakeWorker) -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    health = Health(probe_timeout=0.01)
    health.workers = [cast(Worker, worker)]
    health.probes = {"the database does not answer tenancy_tenant": hang}
    assert await health.reasons() == ["the database does not answer tenancy_tenant"]


async def test_a_database_that_never_answers_is_left_when_the_probe_ends(
    worker: FakeWorker,
) -> None:
    accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(reader)
        await reader.read()  # until the client closes
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        health = Health(probe_timeout=0.2)
        health.workers = [cast(Worker, worker)]
        url = f"postgresql://tenancy_tenant:x@127.0.0.1:{port}/none"
        reason = "the database does not answer tenancy_tenant"
        health.probes = {reason: probes(cast(Client, None), [url])[reason]}
        assert await health.reasons() == [reason]
        async with asyncio.timeout(2):
            await (await accepted.get()).read()


async def test_an_answer_is_good_for_a_while(health: Health, server: Server, clock: Clock) -> None:
    assert [await health.reasons() for _ in range(3)] == [[], [], []]
    assert server.asked == 1
    server.answers = False
    clock.now += PROBES_MAX_AGE
    assert await health.reasons() == []
    clock.now += 0.1
    assert await health.reasons() == ["Temporal does not answer"]


async def test_a_worker_that_ended_by_itself_is_neither_ready_nor_live(
    health: Health, worker: FakeWorker
) -> None:
    worker.is_running, worker.is_shutdown = False, True
    assert await health.reasons() == ["the queue bulk is not polled"]
    assert await get(health, "/healthz") == (503, {"status": "failed"})


async def test_a_stopping_worker_is_live_and_not_ready(health: Health, worker: FakeWorker) -> None:
    health.stopping = True
    worker.is_running, worker.is_shutdown = False, True
    assert await health.reasons() == ["the worker is stopping"]
    assert health.is_live()


async def test_a_port_in_use_is_named() -> None:
    async with serving(Health(), host="127.0.0.1", port=0) as address:
        port = int(address.rsplit(":", 1)[1])
        with pytest.raises(PortInUse, match=f"^port {port} on 127.0.0.1 is in use") as refused:
            async with serving(Health(), host="127.0.0.1", port=port):
                pass
    assert refused.value.sentence.startswith("PortInUse: port ")


async def test_any_other_page_is_not_found_and_head_has_no_body(health: Health) -> None:
    assert (await get(health, "/metrics"))[0] == 404
    async with serving(health, host="127.0.0.1", port=0) as address, httpx.AsyncClient() as http:
        answer = await http.head(f"{address}/readyz?now")
    assert (answer.status_code, answer.content) == (200, b"")


ROUTES = {"/healthz": 200, "/readyz": 200, "/metrics": 200, "/nowhere": 404, "/": 404}
METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X" * 50)


@pytest.mark.parametrize("path", ROUTES)
async def test_each_route_takes_get_and_head_and_refuses_every_other_method(
    health: Health, path: str
) -> None:
    expected = ROUTES[path]
    scrape = Scrape(lambda: b"# nothing", shared_for=0)
    async with (
        serving(health, host="127.0.0.1", port=0, scrape=scrape) as address,
        httpx.AsyncClient(base_url=address) as http,
    ):
        assert (await http.get(path)).status_code == expected
        head = await http.head(path)
        assert (head.status_code, head.content) == (expected, b"")
        for method in METHODS:
            answer = await http.request(method, path)
            assert answer.status_code == (405 if expected == 200 else 404), method
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers.get("Allow") == ("GET, HEAD" if expected == 200 else None)
            reasons = answer.json().get("reasons", [])
            shown = [f"this takes GET, HEAD, not {method[:20]}"] if expected == 200 else []
            assert reasons == shown


async def test_metrics_that_a_process_lacks_are_not_found_by_any_method(health: Health) -> None:
    async with serving(health, host="127.0.0.1", port=0) as address, httpx.AsyncClient() as http:
        assert (await http.post(f"{address}/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /readyz HTTP/9.9\r\n\r\n", 505),
        (b"GET /readyz HTTP/x\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /readyz HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["version", "syntax", "length", "headers"],
)
async def test_what_cannot_be_read_is_refused_without_html(
    health: Health, request_: bytes, status: int
) -> None:
    async with serving(health, host="127.0.0.1", port=0) as address:
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_)
        answer = b""
        with suppress(ConnectionError):  # the rest of a long request is not read
            while part := await reader.read(1000):
                answer += part
        writer.close()
    assert f" {status} ".encode() in answer.split(b"\r\n")[0] + b" ", answer
    assert b'{"status": "refused", "reasons": ["' in answer
    assert b"<" not in answer


async def test_a_client_that_sends_nothing_does_not_hold_up_the_end(health: Health) -> None:
    async with serving(health, host="127.0.0.1", port=0) as address:
        host, port = address.removeprefix("http://").split(":")
        _, silent = await asyncio.open_connection(host, int(port))
    silent.close()


async def test_an_event_loop_that_hangs_is_not_live(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporal_tenancy.lifecycle._health.REQUEST_TIMEOUT", 0.05)
    async with serving(health, host="127.0.0.1", port=0) as address:
        answered: list[int] = []
        asking = threading.Thread(
            target=lambda: answered.append(httpx.get(f"{address}/healthz").status_code)
        )
        asking.start()
        asking.join()  # on the event loop's own thread: it hangs
    assert answered == [503]


async def test_clients_that_never_finish_neither_hide_readiness_nor_stay(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporal_tenancy.lifecycle._health.CONNECTIONS", 4)
    before = threading.active_count()
    async with serving(health, host="127.0.0.1", port=0) as address, httpx.AsyncClient() as http:
        host, port = address.removeprefix("http://").split(":")
        slow = []
        for garbage in [b"", b"GET", b"\x00\xff\r\n", b"GET /readyz HTTP/1.1\r\nX:"] * 5:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            slow.append((reader, writer))
        assert (await http.get(f"{address}/readyz")).status_code == 200
        async with asyncio.timeout(3):  # the oldest are let go before their time is over
            for reader, _ in slow[:12]:
                with suppress(ConnectionError):
                    await reader.read()
        assert threading.active_count() - before <= 4 + 2
        for _, writer in slow:
            writer.close()
