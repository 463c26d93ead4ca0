"""The door's connections: how long each may take, how many there may be, and who makes room.

uvicorn has a deadline only for what is between two requests, and answers everybody with 503 once
there are too many connections, idle ones too. So its protocol is extended here: a connection that
is waited for is closed in time, and no address can take so many that there are none for others.
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

BACKLOG: Final = 256  # connections that wait to be taken; as many are taken without a pause
TELL_SECONDS: Final = 10.0  # between two lines about the same
CALLER_ENDED: Final = "caller_ended"  # in a call's state: who called sends no more, or has gone

log: Final = structlog.get_logger(__name__)


class Phase(Enum):
    """What a connection is at."""

    HEAD = "head"  # a request is waited for, or the rest of its head
    ANSWERING = "answering"
    REST = "rest"  # it was answered before its body had come
    IDLE = "idle"  # another request may come
    CLOSED = "closed"


class Connections:
    """The open connections of a process, by address, and those of them that could be closed."""

    def __init__(self, limits: Limits, addresses: Addresses) -> None:
        self.limits = limits
        self._addresses = addresses
        self._open: dict[str | None, set[DoorProtocol]] = {}
        self._waiting: dict[str | None, dict[DoorProtocol, None]] = {}  # the longest first
        self._count = 0
        self._told_at = float("-inf")

    def __len__(self) -> int:
        return self._count

    def add(self, connection: DoorProtocol, host: str | None) -> HTTPStatus | None:
        """Takes a new connection; returns why not, where nothing that waits can make room.

        An address that has all it may have makes room itself. Where the process has, the address
        does of which the most wait.
        """
        address = self._addresses.of_peer(host)
        held = len(self._open.get(address, ()))
        # None: a trusted proxy's, whose callers are counted one by one.
        if address is not None and held >= self.limits.connections_per_address:
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
        """Forgets a connection, if it is one of these."""
        held = self._open.get(connection.address, set())
        if connection not in held:
            return
        held.remove(connection)
        self._count -= 1
        if not held:
            del self._open[connection.address]
        self.busy(connection)

    def waits(self, connection: DoorProtocol) -> None:
        """Says that a connection could be closed without harm, from now on."""
        if connection in self._open.get(connection.address, ()):
            self._waiting.setdefault(connection.address, {})[connection] = None

    def busy(self, connection: DoorProtocol) -> None:
        """Says that it could not."""
        waiting = self._waiting.get(connection.address, {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(connection.address, None)

    def _tell(self, address: str | None) -> None:
        """Logs that somebody has to make room: of many times, one now and then."""
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
        # A proxy's only where there are no others: its connections are many callers'.
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
    """How the door's server is run."""

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
            proxy_headers=False,  # `Addresses` does it
            backlog=BACKLOG,
            timeout_keep_alive=ceil(connections.limits.idle_seconds),  # ours comes first
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
        self._ended = False  # the client sends no more
        self._waiting: asyncio.TimerHandle | None = None  # for the client to send
        self._writing: asyncio.TimerHandle | None = None  # for the client to take

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or refuses it where there are too many."""
        super().connection_made(transport)
        refused = self._open.add(self, self.client[0] if self.client else None)
        if refused is not None:
            self._refuse(refused, "TooManyConnections", "there are too many connections.")
        self._look()

    def data_received(self, data: bytes) -> None:
        """Reads what has come."""
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD, self._limits.head_seconds)
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Answers what has been asked: who sends no more may read still.

        Who has gone looks the same until it is written to.
        """
        self._ended = True
        self._look()
        return not self.transport.is_closing()

    def handle_events(self) -> None:
        """Goes through what was read."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """Waits for what comes behind an answer."""
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Refuses what cannot be read, or could be read in two ways."""
        if self.conn.refusal == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(self.conn.refusal, "HeadersTooLarge", "the request's head is too large.")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", "this is not a request in HTTP/1.1.")

    def pause_writing(self) -> None:
        """Gives the client a while to take what was sent."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """Takes note that it has."""
        super().resume_writing()
        if not self.transport.is_closing():
            _cancel(self._writing)
            self._writing = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        super().connection_lost(exc)
        _cancel(self._writing)
        self._writing = None
        self._enter(Phase.CLOSED)
        self._open.remove(self)

    def shutdown(self) -> None:
        """Closes it, or lets it be closed behind the answer that is under way."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.close()  # the answer was cut off
        self._look()

    def make_room(self) -> None:
        """Closes it for another's sake."""
        self._enter(Phase.CLOSED)
        self.transport.abort()

    def _look(self) -> None:
        """Sees what it is at, and waits for it as long as that may take."""
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
        """Closes it, unless a request that has come whole is being answered."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.close()
        else:
            self.cycle.scope["state"][CALLER_ENDED] = True

    def _enter(self, phase: Phase, seconds: float | None = None) -> None:
        """Begins a phase; one that it is in goes on, and its time with it."""
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
            # Not `close`: that would wait until all is taken.
            self._writing = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Answers without the application, and closes the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what it would still send is not wanted
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
