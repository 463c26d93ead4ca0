"""TCP ports on this machine, and those that the parts of a stack had last."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dev.devstack.files import write_private

LOOPBACK = "127.0.0.1"
LOWEST: Final = 10_000  # well-known programs have many of those below
HIGHEST_LOW: Final = 32_768
TAKEN: Final = "address already in use"  # how servers say so, in lower case


def free_ports(count: int) -> list[int]:
    """Returns `count` different ports that nothing listens on.

    They are not reserved: another program may take one before it is used, so code that starts a
    server on one must be ready to retry.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """Returns a port that nothing listens on; see `free_ports`."""
    return free_ports(1)[0]


def free_low_port() -> int:
    """Returns a port below 32768 that nothing listens on; see `free_ports`.

    Linux gives no such port to a program that asks for any, or that connects.
    """
    while True:
        port = LOWEST + secrets.randbelow(HIGHEST_LOW - LOWEST)
        if _looks_free(port):
            return port


def says_taken(output: str) -> bool:
    """Whether a server's output says that another program has its port."""
    return TAKEN in output.lower()


class Ports:
    """The ports of a stack's parts, which they keep from one run to the next.

    A part asks for its `candidates` and tries to listen on each: only the attempt shows whether a
    port is free.
    """

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the file that keeps the ports; None: they are kept in memory."""
        self._path = path
        self._kept = _read(path)
        self._lock = threading.Lock()  # parts start at the same time

    def candidates(self, part: str, *preferred: int | None) -> Iterator[int]:
        """Yields the port that `part` had last, then the preferred ones, then free ones, forever.

        Leaves out ports that are visibly taken, so that few attempts fail.
        """
        for port in dict.fromkeys([self._kept.get(part), *preferred]):
            if port and _looks_free(port):
                yield port
        while True:
            yield free_port()

    def keep(self, part: str, port: int) -> None:
        """Notes the port on which `part` listens."""
        with self._lock:
            if self._kept.get(part) == port:
                return
            self._kept[part] = port
            if self._path is not None:
                write_private(self._path, json.dumps(self._kept, indent=2) + "\n")

    def forget(self, part: str) -> None:
        """Forgets the port that `part` had last."""
        with self._lock:
            self._kept.pop(part, None)

    def kept(self, part: str) -> int | None:
        """Returns the port that `part` had last, or None."""
        return self._kept.get(part)


def _read(path: Path | None) -> dict[str, int]:
    """Returns what the file keeps; ports are no loss, so a damaged file counts as empty."""
    try:
        found = json.loads(path.read_text()) if path is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {str(part): port for part, port in found.items() if _is_port(port)}


def _is_port(port: object) -> bool:
    return isinstance(port, int) and 0 < port < 65536


def _looks_free(port: int) -> bool:
    with socket.socket() as probe:
        # A server's closed connections linger for a minute. They do not stop a new server from
        # listening, so they must not stop this probe.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
