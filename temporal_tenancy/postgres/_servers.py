"""Notices servers that do not answer, so that sessions do not hold connections while they wait.

A connection that is being opened counts against the cap. To a server that is away that takes until
the timeout, and its tenants' sessions would hold the cap meanwhile. So once an attempt is slow, the
others wait for its end before they take a connection, and after it has timed out they fail at once,
for as long as it took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

SLOW: Final = 1.0  # seconds after which an attempt says that the server may be away


class ServerSilent(Exception):
    """A server did not answer in time; told as `DatabaseUnreachable`."""


@dataclass(eq=False)
class Server:
    """One server, by its host and port, for all stores on it."""

    clock: Callable[[], float] = time.monotonic
    _attempts: dict[object, float] = field(default_factory=dict)  # since when each runs
    _silent: bool = False  # whether the last attempt to end has timed out
    _until: float = 0.0  # clock time until which sessions fail at once
    _probe: object | None = None  # the session that tries a silent server
    _ended: asyncio.Event | None = None

    async def admit(self, session: object) -> bool:
        """Returns whether `session` tries a silent server; then it calls `dismiss` afterwards.

        It waits while another one does.

        Raises:
            ServerSilent: an attempt has just timed out.
        """
        while self._is_suspect():
            if self.clock() < self._until:
                raise ServerSilent
            if self._probe is None and not self._attempts:
                self._probe = session
                return True
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()
        return False

    def dismiss(self) -> None:
        """Lets the next session try."""
        self._probe = None
        self._wake()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Opens a connection in the block, which raises `ServerSilent` if that takes too long."""
        this = object()
        began = self._attempts[this] = self.clock()
        try:
            yield
            self._silent = False
        except ServerSilent:
            now = self.clock()
            self._silent, self._until = True, now + (now - began)
            raise
        finally:
            del self._attempts[this]
            self._wake()

    def _is_suspect(self) -> bool:
        now = self.clock()
        return self._silent or any(now - began >= SLOW for began in self._attempts.values())

    def _wake(self) -> None:
        if self._ended is not None:
            self._ended.set()
            self._ended = None
