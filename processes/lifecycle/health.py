"""Serves `/healthz` and `/readyz` on the workers' event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from processes.lifecycle.listening import listen

PROBES_MAX_AGE: Final = 5.0  # seconds that a result is cached
PROBE_TIMEOUT: Final = 3.0  # seconds
CLOSE_TIMEOUT: Final = 1  # seconds for requests in progress at shutdown

log: Final = structlog.get_logger(__name__)

Probe = Callable[[], Awaitable[bool]]


class Polling(Protocol):
    """A consumer of a queue: a Temporal worker or a relay."""

    @property
    def task_queue(self) -> str:
        """The name of the queue."""

    @property
    def is_running(self) -> bool:
        """Whether it takes work."""

    @property
    def is_shutdown(self) -> bool:
        """Whether it has ended."""


class Health:
    """The liveness and readiness of the process."""

    def __init__(
        self,
        *,
        probe_timeout: float = PROBE_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            probe_timeout: seconds after which a probe fails.
            clock: returns the time in seconds, for the age of a result.
        """
        self.workers: Sequence[Polling] = ()
        self.probes: Mapping[str, Probe] = {}  # by the reason to show when one fails
        self.stopping = False
        self._probe_timeout = probe_timeout
        self._clock = clock
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
                log.warning("worker.unready", reasons=reasons)
            else:
                log.info("worker.ready")
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


@asynccontextmanager
async def serving(health: Health, *, host: str, port: int) -> AsyncIterator[str]:
    """Serves on `port` of `host` (0: any free port) during the block; yields the URL.

    Raises:
        WorkerExit: the port is in use, or the host is not this machine's.
    """
    listener = listen(host, port, otherwise="for the worker's health with --health-port")
    address = f"http://{host}:{listener.getsockname()[1]}"
    server = _Server(
        uvicorn.Config(
            _application(health),
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=CLOSE_TIMEOUT,
        )
    )
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address
    finally:
        server.should_exit = True
        await answering


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The worker handles signals; uvicorn would stop before the activities have finished.
        yield


def _application(health: Health) -> Starlette:
    async def healthz(request: Request) -> JSONResponse:
        if health.is_live():
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "failed"}, status_code=503)

    async def readyz(request: Request) -> JSONResponse:
        reasons = await health.reasons()
        if not reasons:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
