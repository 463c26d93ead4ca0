"""The log events of a process: `worker.*`, or `relay.*` where it runs nothing but a relay."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

Kind = Literal["worker", "relay"]

log: Final = logging.getLogger(__name__)


class Events(Protocol):
    """Writes the log lines about the stages of a process."""

    def starting(self, queues: Sequence[str], health: str | None, version: str | None) -> None: ...
    def started(self, queues: Sequence[str], health: str | None, version: str | None) -> None: ...
    def ready(self) -> None: ...
    def unready(self, reasons: Sequence[str]) -> None: ...
    def stopping(self, signal: str, grace: float | None) -> None: ...
    def stopped(self, signal: str, seconds: float | None = None) -> None: ...
    def abandoned(self, seconds: float | None) -> None: ...
    def aborted(self, signal: str) -> None: ...


# Each event is written out, so that a search for it finds its line.
class _WorkerEvents:
    def starting(self, queues: Sequence[str], health: str | None, version: str | None) -> None:
        log.info("worker.starting", extra={"queues": queues, "health": health, "version": version})

    def started(self, queues: Sequence[str], health: str | None, version: str | None) -> None:
        log.info("worker.started", extra={"queues": queues, "health": health, "version": version})

    def ready(self) -> None:
        log.info("worker.ready")

    def unready(self, reasons: Sequence[str]) -> None:
        log.warning("worker.unready", extra={"reasons": reasons})

    def stopping(self, signal: str, grace: float | None) -> None:
        log.info("worker.stopping", extra={"signal": signal, "grace_seconds": grace})

    def stopped(self, signal: str, seconds: float | None = None) -> None:
        log.info("worker.stopped", extra={"signal": signal, "seconds": seconds})

    def abandoned(self, seconds: float | None) -> None:
        log.error("worker.activities_abandoned", extra={"seconds": seconds})

    def aborted(self, signal: str) -> None:
        log.warning("worker.aborted", extra={"signal": signal})


class _RelayEvents:
    def starting(self, queues: Sequence[str], health: str | None, version: str | None) -> None:
        log.info("relay.starting", extra={"queues": queues, "health": health, "version": version})

    def started(self, queues: Sequence[str], health: str | None, version: str | None) -> None:
        log.info("relay.started", extra={"queues": queues, "health": health, "version": version})

    def ready(self) -> None:
        log.info("relay.ready")

    def unready(self, reasons: Sequence[str]) -> None:
        log.warning("relay.unready", extra={"reasons": reasons})

    def stopping(self, signal: str, grace: float | None) -> None:
        log.info("relay.stopping", extra={"signal": signal, "grace_seconds": grace})

    def stopped(self, signal: str, seconds: float | None = None) -> None:
        log.info("relay.stopped", extra={"signal": signal, "seconds": seconds})

    def abandoned(self, seconds: float | None) -> None:
        log.error("relay.work_abandoned", extra={"seconds": seconds})

    def aborted(self, signal: str) -> None:
        log.warning("relay.aborted", extra={"signal": signal})


EVENTS: Final[Mapping[Kind, Events]] = {"worker": _WorkerEvents(), "relay": _RelayEvents()}
