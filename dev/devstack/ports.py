"""TCP ports on this machine."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from dev.devstack.errors import PortInUse

LOOPBACK = "127.0.0.1"


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


def require_free(port: int) -> int:
    """Returns the port.

    Raises:
        PortInUse: something listens on it.
    """
    with socket.socket() as probe:
        # A server's closed connections linger for a minute. They do not stop a new server from
        # listening, so they must not stop this probe.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortInUse(port, LOOPBACK) from error
    return port


def prefer(port: int) -> int:
    """Returns the port if it is free, and any free one otherwise."""
    try:
        return require_free(port)
    except PortInUse:
        return free_port()
