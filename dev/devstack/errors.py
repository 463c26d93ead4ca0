"""Errors of a stack that cannot start."""

from __future__ import annotations


class PartMissing(Exception):
    """Something the stack needs is missing.

    The message names what is missing and says how to get it.
    """


class PortInUse(PartMissing):
    """Another program listens on the requested port."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(
            f"port {port} on {host} is in use. Stop the program that listens there, "
            "or choose another port."
        )
        self.port = port
        self.host = host


class DirectoryInUse(PartMissing):
    """Another stack runs in the same directory."""


class NoDirectory(PartMissing):
    """The directory of a stack is something else, such as a file."""
