"""Lets a person's command end whose PostgreSQL server has stopped answering.

A server whose processes are stopped, or whose machine hangs, keeps its connections open. What was
sent on one is never answered, and no limit of the server's own ends it.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from os import dup
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL

    Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

SILENT: Final = "it accepts connections, and stays silent"
# A person waits. A server that works answers within a second, and within a few where the machine
# is busy.
ANSWER_TIMEOUT: Final = timedelta(seconds=10)
QUIET: Final = timedelta(seconds=3)  # for a statement, before anybody asks for the server
LOOKS: Final = 10  # at the connections, in that time

_ACTIVE: Final = 1  # libpq's PQTRANS_ACTIVE: a statement was sent, and its answer is not complete
# A server answers it with one byte before it asks for a name or a password, and so does a pooler.
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80_877_103)

Server = tuple[object, ...]


class SilenceWatch:
    """Watches the connections that a command opens, in a thread of its own.

    A statement may take long. So, when one has no answer yet, the watch asks whether the server
    still answers anybody, and cuts the connections to one that does not: their statements fail.
    """

    def __init__(self, within: timedelta = ANSWER_TIMEOUT, quiet: timedelta = QUIET) -> None:
        """
        Args:
            within: how long a server may stay silent.
            quiet: the part of it for which nobody asks.
        """
        self._quiet = quiet.total_seconds()
        self._left = within.total_seconds() - self._quiet
        self._lock = threading.Lock()
        self._watched: WeakKeyDictionary[Connection, Server] = WeakKeyDictionary()
        self._since: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._silent: dict[Server, str] = {}
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def watch(self, connection: Connection, url: URL) -> None:
        """Watches a connection that was opened with `url`, until it is gone."""
        with self._lock:
            self._watched[connection] = _server(url)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, daemon=True)
                self._thread.start()

    def note(self, url: URL, reason: str) -> None:
        """Remembers that the server did not answer who connected, so that nobody tries again."""
        self._silent.setdefault(_server(url), reason)

    def reason(self, url: URL) -> str | None:
        """Returns why the server is not worth another try; None if it is."""
        return self._silent.get(_server(url))

    def end(self) -> None:
        """Stops watching."""
        self._ended.set()

    def _look_on(self) -> None:
        while not self._ended.wait(self._quiet / LOOKS):
            with self._lock:
                watched = list(self._watched.items())
            for connection, server in watched:
                if self._waits(connection) and not _answers(connection, self._left):
                    self._cut(server)

    def _waits(self, connection: Connection) -> bool:
        """Whether a statement has waited so long that the server must be asked."""
        if int(connection.pgconn.transaction_status) != _ACTIVE:
            self._since.pop(connection, None)
            return False
        now = time.monotonic()
        if now - self._since.setdefault(connection, now) < self._quiet:
            return False
        self._since[connection] = now  # it is asked again after as long
        return True

    def _cut(self, server: Server) -> None:
        self._silent.setdefault(server, SILENT)
        with self._lock:
            connections = [each for each, at in self._watched.items() if at == server]
        for connection in connections:
            cut(connection)


def cut(connection: Connection) -> None:
    """Ends a connection's traffic: what waits for it gets an error. Safe in any thread."""
    # `close()` would leave it waiting. The driver still owns and closes the descriptor.
    with suppress(Exception), socket.socket(fileno=dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


_watch: Final[ContextVar[SilenceWatch | None]] = ContextVar(
    "temporal_tenancy_silence_watch", default=None
)


@contextmanager
def watching_for_silence(watch: SilenceWatch | None = None) -> Iterator[SilenceWatch]:
    """Watches the connections that the block opens, also in its tasks and threads."""
    watch = watch or SilenceWatch()
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)
        watch.end()


def silence_watch() -> SilenceWatch | None:
    """Returns the watch of the running command; None in a process that serves."""
    return _watch.get()


def _server(url: URL) -> Server:
    return url.host, url.port, url.query.get("host"), url.query.get("port")


def _answers(connection: Connection, seconds: float) -> bool:
    """Whether the server of a connection answers a new one, whatever it answers."""
    info = connection.info
    local = info.host.startswith("/")
    try:
        with socket.socket(_family(info.hostaddr, local=local)) as asked:
            asked.settimeout(seconds)
            path = f"{info.host}/.s.PGSQL.{info.port}"
            asked.connect(path if local else (info.hostaddr, info.port))
            asked.sendall(_SSL_REQUEST)
            asked.recv(1)
    except (ConnectionError, FileNotFoundError):
        return True  # it has ended, which the statement will be told
    except OSError:
        return False
    return True


def _family(address: str, *, local: bool) -> socket.AddressFamily:
    if local:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address else socket.AF_INET
