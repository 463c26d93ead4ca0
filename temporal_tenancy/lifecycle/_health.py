"""The health of a process: `/healthz` and `/readyz`, and its metrics: `/metrics`."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from temporal_tenancy.core.display import printable
from temporal_tenancy.lifecycle._consumers import Watched
from temporal_tenancy.lifecycle._events import EVENTS, Events
from temporal_tenancy.lifecycle._listening import listen

PROBES_MAX_AGE: Final = 5.0  # seconds that a result is cached
PROBE_TIMEOUT: Final = 3.0  # seconds
REQUEST_TIMEOUT: Final = 5.0  # seconds for a client to send its request, and for the answer
CONNECTIONS: Final = 32  # at once; one more closes the oldest, so slow clients hide no answer
SHARED_FOR: Final = 1.0  # seconds that scrapes share an answer, so that many cost no more than one
SHUTDOWN_LOOK: Final = 0.05  # seconds between two looks of the server whether it is to end

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
ALLOWED: Final = "GET, HEAD"
METHOD_SHOWN: Final = 20  # characters of a method that is refused
NOT_FOUND: Final = {"status": "not found"}

log: Final = logging.getLogger(__name__)

Probe = Callable[[], Awaitable[bool]]
"""Asks one server; returns whether it answers."""


class Health:
    """The liveness and readiness of the process."""

    def __init__(
        self,
        *,
        probe_timeout: float = PROBE_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        events: Events = EVENTS["worker"],
    ) -> None:
        """
        Args:
            probe_timeout: seconds after which a probe fails.
            clock: returns the time in seconds, for the age of a result.
            events: writes the changes of readiness.
        """
        self.workers: Sequence[Watched] = ()
        self.probes: Mapping[str, Probe] = {}  # by the reason to show when one fails
        self.stopping = False  # not ready, though it still takes work for a while
        self._probe_timeout = probe_timeout
        self._clock = clock
        self._events = events
        self._failed: list[str] = []
        self._probed_at = float("-inf")
        self._probing = asyncio.Lock()
        self._was_ready = False

    def is_live(self) -> bool:
        """Returns whether no worker has ended on its own; a hung process would not even answer."""
        return self.stopping or not any(worker.is_shutdown for worker in self.workers)

    async def reasons(self) -> list[str]:
        """Returns why the process cannot take work; empty if it can."""
        if self.stopping:
            return ["the worker is stopping"]
        if not self.workers:
            return ["the worker is starting"]
        idle = [
            f"the queue {worker.task_queue} is not polled"
            for worker in self.workers
            if not worker.is_running
        ]
        reasons = [*idle, *await self._failed_probes()]
        if self._was_ready == bool(reasons):
            self._was_ready = not reasons
            if reasons:
                self._events.unready(reasons)
            else:
                self._events.ready()
        return reasons

    async def _failed_probes(self) -> list[str]:
        async with self._probing:
            if self._clock() - self._probed_at > PROBES_MAX_AGE:
                answers = await asyncio.gather(*map(self._answer, self.probes.values()))
                self._failed = [
                    reason
                    for reason, answer in zip(self.probes, answers, strict=True)
                    if not answer
                ]
                self._probed_at = self._clock()
            return self._failed

    async def _answer(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(self._probe_timeout):
                return await probe()
        except TimeoutError:
            return False


@dataclass(frozen=True)
class Scrape:
    """What `/metrics` answers with, and to whom."""

    text: Callable[[], bytes]  # Prometheus' text format; is called in a thread, asks no server
    token: str | None = field(default=None, repr=False)
    """`Authorization: Bearer <token>` is required; None: whoever reaches the port may scrape."""
    shared_for: float = SHARED_FOR  # seconds

    def allows(self, authorization: str | None) -> bool:
        """Whether a request with this header may scrape."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return scheme.lower() == "bearer" and is_right


class _Shared:
    """The text of a scrape. Those who ask while one reads it, or soon after, get the same."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        self._lock = threading.Lock()
        self._text = b""
        self._until = float("-inf")

    def text(self) -> bytes:
        """Returns a text of the last moment."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._text = self._scrape.text()
                self._until = time.monotonic() + self._scrape.shared_for
            return self._text


Answer = tuple[int, Mapping[str, object]]  # the status, and the document


@asynccontextmanager
async def serving(
    health: Health,
    *,
    host: str,
    port: int,
    scrape: Scrape | None = None,
    otherwise: str = "for the worker's health with --health-port",
) -> AsyncIterator[str]:
    """Serves on `port` of `host` (0: any free port) during the block; yields the URL.

    A thread speaks HTTP, and this event loop answers for the health: one that hangs does not. The
    metrics of a process that hangs can still be scraped.

    Args:
        health: of the process.
        host: one of this machine's addresses.
        port: 0: any free port.
        scrape: the metrics; None: the process has none.
        otherwise: how a person chooses another port, for the message when this one is in use.

    Raises:
        PortInUse: the port is in use, or the host is not this machine's.
    """
    listener = listen(host, port, otherwise=otherwise)
    loop = asyncio.get_running_loop()
    shared = None if scrape is None else _Shared(scrape)
    doors: Mapping[str, Callable[[], Coroutine[Any, Any, Answer]]] = {
        "/healthz": lambda: _liveness(health),
        "/readyz": lambda: _readiness(health),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT
        server_version, sys_version = "temporal-tenancy", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics" and scrape is not None and shared is not None:
                self._scrape(scrape, shared)
                return
            door = doors.get(path)
            if door is None:
                self._send(404, NOT_FOUND)
                return
            asked = asyncio.run_coroutine_threadsafe(door(), loop)
            try:
                self._send(*asked.result(REQUEST_TIMEOUT))
            except TimeoutError:
                asked.cancel()
                self._send(503, {"status": "failed", "reasons": ["the event loop hangs"]})

        do_HEAD = do_GET

        def send_error(
            self, code: int, message: str | None = None, explain: str | None = None
        ) -> None:
            """Refuses what is no GET or HEAD, or no HTTP, as other refusals do."""
            if code != HTTPStatus.NOT_IMPLEMENTED:  # the request cannot be read
                self.request_version = self.protocol_version  # or there would be no status line
                self._send(code, _refused(HTTPStatus(code).phrase.lower()))
            elif self._is_known():
                reason = f"this takes {ALLOWED}, not {printable(self.command)[:METHOD_SHOWN]}"
                self._send(HTTPStatus.METHOD_NOT_ALLOWED, _refused(reason), {"Allow": ALLOWED})
            else:
                self._send(404, NOT_FOUND)

        def _is_known(self) -> bool:
            path = self.path.partition("?")[0]
            return path in doors or (path == "/metrics" and scrape is not None)

        def _scrape(self, scrape: Scrape, shared: _Shared) -> None:
            if not scrape.allows(self.headers.get("Authorization")):
                reason = "a scrape needs the token: Authorization: Bearer <token>"
                self._send(401, _refused(reason), CHALLENGE)
                return
            try:
                body = shared.text()
            except Exception:  # of an application's own collector
                log.exception("metrics.failed")
                reason = "the metrics cannot be read; the log says why"
                self._send(500, {"status": "failed", "reasons": [reason]})
                return
            self._send_body(200, body, EXPOSITION)

        def _send(
            self,
            status: int,
            document: Mapping[str, object],
            headers: Mapping[str, str] | None = None,
        ) -> None:
            self._send_body(status, json.dumps(document).encode(), "application/json", headers)

        def _send_body(
            self,
            status: int,
            body: bytes,
            kind: str,
            headers: Mapping[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Writes no line for each request."""

    server = _Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(
        target=server.serve_forever, args=(SHUTDOWN_LOOK,), name="health", daemon=True
    )
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def _refused(reason: str) -> Mapping[str, object]:
    return {"status": "refused", "reasons": [reason]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that sends nothing does not hold up the end

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As its base."""
        super().__init__(*arguments, **options)
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread of its own."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > CONNECTIONS:
                with suppress(OSError):
                    next(iter(self._open)).shutdown(socket.SHUT_RDWR)  # its thread ends
                del self._open[next(iter(self._open))]
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Writes nothing: a client that went away is no error of the process."""


async def _liveness(health: Health) -> Answer:
    return (200, {"status": "ok"}) if health.is_live() else (503, {"status": "failed"})


async def _readiness(health: Health) -> Answer:
    reasons = await health.reasons()
    if not reasons:
        return 200, {"status": "ready"}
    return 503, {"status": "not ready", "reasons": reasons}
