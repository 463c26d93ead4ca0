"""Opens the port that a process listens on."""

from __future__ import annotations

import errno
import socket

from temporal_tenancy.lifecycle._problems import PortInUse


def listen(host: str, port: int, *, otherwise: str) -> socket.socket:
    """Listens on `port` of `host` (0: any free port).

    `otherwise` says how to choose another port. Raises `PortInUse` if the port is in use or the
    host is not this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = (
            f"port {port} on {host} is in use"
            if error.errno == errno.EADDRINUSE
            else f"port {port} on {host} cannot be opened: {error.strerror}"
        )
        raise PortInUse(
            f"{reason}. Stop the program that listens there, or choose another port {otherwise}."
        ) from None
