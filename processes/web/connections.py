"""The door's connections: their timeouts, their number, and which one is closed to make room.

uvicorn has a timeout only between two requests, and answers everybody with 503 once there are too
many connections, even idle ones. This module extends its protocol: every wait for a client has a
timeout, and one address cannot use up the connections of all others.
"""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from processes.web.addresses import Addresses
from processes.web.answers import HEADERS
from processes.web.errors import problem
from processes.web.limits import Limits
from processes.web.strict_http import StrictConnection

BACKLOG: Final = 256  # connections waiting to be accepted; as many are accepted in one go
TELL_SECONDS: Final = 10.0  # between two log lines about the same problem
CALLER_ENDED: Final = "caller_ended"  # in a request's state: the caller sends no more, or is gone

log: Final = structlog.get_logger(__name__)


class Phase(Enum):
    """The state of a connection."""

    HEAD = "head"  # waiting for a request or the rest of its head
    ANSWERING = "answering"
    REST = "rest"  # answered before the whole body had arrived
    IDLE = "idle"  # waiting for another request
    CLOSED = "closed"


class Connections:
    """The open connections of a process, by address, and which of them may be closed."""

    def __init__(self, limits: Limits, addresses: Addresses) -> None:
        self.limits = limits
        self._addresses = addresses
        self._open: dict[str | None, set[DoorProtocol]] = {}
        self._waiting: dict[str | None, dict[DoorProtocol, None]] = {}  # longest first
        self._count = 0
        self._told_at = float("-inf")

    def __len__(self) -> int:
        return self._count

    def add(self, connection: DoorProtocol, host: str | None) -> HTTPStatus | None:
        """Adds a new connection; returns a status to refuse it with if none can make room.

        An address at its limit makes room itself. If the process is at its limit, the address with
        the most waiting connections does.
        """
        address = self._addresses.of_peer(host)
        in_use = len(self._open.get(address, ()))
        # None is a trusted proxy, whose callers are counted one by one.
        if address is not None and in_use >= self.limits.connections_per_address:
            self._tell(address)
            if not self._close_one_of(address):
                return HTTPStatus.TOO_MANY_REQUESTS
        elif self._count >= self.limits.connections:
            self._tell(None)
            if not self._close_one():
                return HTTPStatus.SERVICE_UNAVAILABLE
        self._open.setdefault(address, set()).add(connection)
        self._count += 1
        connection.address = address
        return None

    def remove(self, connection: DoorProtocol) -> None:
        """Removes a connection, if it is counted here."""
        siblings = self._open.get(connection.address, set())
        if connection not in siblings:
            return
        siblings.remove(connection)
        self._count -= 1
        if not siblings:
            del self._open[connection.address]
        self.busy(connection)

    def waits(self, connection: DoorProtocol) -> None:
        """Marks a connection as one that may be closed to make room."""
        if connection in self._open.get(connection.address, ()):
            self._waiting.setdefault(connection.address, {})[connection] = None

    def busy(self, connection: DoorProtocol) -> None:
        """Marks a connection as one that must not be closed."""
        waiting = self._waiting.get(connection.address, {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(connection.address, None)

    def _tell(self, address: str | None) -> None:
        """Logs that connections are full, at most once per `TELL_SECONDS`."""
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            log.warning(
                "web.connections_full",
                address=address,
                connections=self._count,
                addresses=len(self._open),
            )

    def _close_one(self) -> bool:
        # A proxy's connections carry many callers, so they go last.
        callers = [address for address in self._waiting if address is not None]
        most = max(callers, key=lambda address: len(self._waiting[address]), default=None)
        return self._close_one_of(most)

    def _close_one_of(self, address: str | None) -> bool:
        longest = next(iter(self._waiting.get(address, ())), None)
        if longest is None:
            return False
        longest.make_room()
        self.remove(longest)
        return True


class DoorConfig(uvicorn.Config):
    """The settings of the door's server."""

    def __init__(self, app: ASGIApp, connections: Connections, *, grace_seconds: int) -> None:
        super().__init__(
            app,
            http=DoorProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # `Addresses` reads them
            backlog=BACKLOG,
            timeout_keep_alive=ceil(connections.limits.idle_seconds),  # `DoorProtocol` is earlier
            timeout_graceful_shutdown=grace_seconds,
        )
        self.connections = connections


class DoorProtocol(H11Protocol):
    """One connection."""

    def __init__(
        self,
        config: DoorConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address: str | None = None
        self._open = config.connections
        self._limits = config.connections.limits
        self.conn: StrictConnection = StrictConnection(
            head_max_bytes=self._limits.head_max_bytes, headers_max=self._limits.headers_max
        )
        self._phase: Phase | None = None
        self._ended = False  # whether the client sends no more
        self._waiting: asyncio.TimerHandle | None = None  # for the client to send
        self._writing: asyncio.TimerHandle | None = None  # for the client to read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accepts the connection, or refuses it if there are too many."""
        super().connection_made(transport)
        refused = self._open.add(self, self.client[0] if self.client else None)
        if refused is not None:
            self._refuse(refused, "TooManyConnections", "there are too many connections.")
        self._look()

    def data_received(self, data: bytes) -> None:
        """Reads the data that arrived."""
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD, self._limits.head_seconds)
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Finishes the response in progress: a client that sends no more may still read.

        A client that is gone looks the same until something is written to it.
        """
        self._ended = True
        self._look()
        return not self.transport.is_closing()

    def handle_events(self) -> None:
        """Handles the events in the data."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """Waits for the next request after a response."""
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Refuses a request that is malformed or ambiguous."""
        if self.conn.refusal == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(self.conn.refusal, "HeadersTooLarge", "the request's head is too large.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", "this is not a request in HTTP/1.1.")

    def pause_writing(self) -> None:
        """Starts the client's timeout for reading the response."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """Stops that timeout."""
        super().resume_writing()
        if not self.transport.is_closing():
            _cancel(self._writing)
            self._writing = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Removes the connection."""
        super().connection_lost(exc)
        _cancel(self._writing)
        self._writing = None
        self._enter(Phase.CLOSED)
        self._open.remove(self)

    def shutdown(self) -> None:
        """Closes the connection, after the response in progress if there is one."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.close()  # the answer was cut off
        self._look()

    def make_room(self) -> None:
        """Closes the connection to make room for another."""
        self._enter(Phase.CLOSED)
        self.transport.abort()

    def _look(self) -> None:
        """Determines the connection's phase, and sets the timeout for it."""
        if self._ended:
            self._expect_no_more()
        if self.transport.is_closing():
            self._enter(Phase.CLOSED)
            if self.transport.get_write_buffer_size():
                self._expect_reader()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._enter(Phase.ANSWERING)
        elif self.conn.their_state is not h11.IDLE:
            self._enter(Phase.REST, self._limits.idle_seconds)
        elif self.cycle is None or self.conn.has_more:
            self._enter(Phase.HEAD, self._limits.head_seconds)
        else:
            self._enter(Phase.IDLE, self._limits.idle_seconds)

    def _expect_no_more(self) -> None:
        """Closes the connection, unless a complete request is being answered."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.close()
        else:
            self.cycle.scope["state"][CALLER_ENDED] = True

    def _enter(self, phase: Phase, seconds: float | None = None) -> None:
        """Enters a phase with its timeout; a phase already entered keeps its own."""
        if phase is self._phase:
            return
        self._phase = phase
        _cancel(self._waiting)
        self._waiting = None
        if seconds is None:
            self._open.busy(self)
        else:
            self._open.waits(self)
            self._waiting = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._phase is Phase.HEAD and self.conn.has_more:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", "the request's head did not come."
            )
        else:
            self.transport.close()
        self._look()

    def _expect_reader(self) -> None:
        if self._writing is None:
            # Not `close`, which would wait until the client has read everything.
            self._writing = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Responds without the application, and closes the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # drops anything it would still send
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem(status, kind, message, {**HEADERS, "Connection": "close"})
            for event in (
                h11.Response(
                    status_code=status,
                    headers=[*self.server_state.default_headers, *answer.raw_headers],
                    reason=HTTPStatus(status).phrase.encode(),
                ),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
