"""A TCP proxy in front of PostgreSQL that can withhold the answer to a COMMIT from its client.

It reads as much of the wire protocol as that takes: https://www.postgresql.org/docs/18/protocol.html
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from dev.devstack.ports import LOOPBACK

# What a connection may send besides its start-up message: requests without a type byte.
ENCRYPTION_REQUESTS: Final = (80_877_103, 80_877_104)  # TLS, GSSAPI; refused with one byte
CANCEL_REQUEST: Final = 80_877_102

QUERY: Final = b"Q"
PARSE: Final = b"P"
BIND: Final = b"B"
EXECUTE: Final = b"E"
READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05"

COMMIT: Final = re.compile(rb"\s*(commit|end)\b", re.IGNORECASE)

CHUNK: Final = 65_536  # bytes


class CommitProxy:
    """Forwards everything; once armed, forwards a COMMIT but not its answer."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()  # set once the armed COMMIT is done, and its client disconnected
        self.upstream = 0  # PostgreSQL's port
        self._server: asyncio.Server | None = None
        self._role: bytes | None = None
        self._countdown = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, upstream: int) -> Self:
        """Listens on any free port for clients of the PostgreSQL on the port `upstream`."""
        self.upstream = upstream
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def stop(self) -> None:
        """Stops listening, and cuts every connection."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def arm(self, role: str, number: int) -> None:
        """Cuts the role's COMMIT after the next `number - 1`; `cut` is set then."""
        self.cut.clear()
        self._role, self._countdown = role.encode(), number

    def disarm(self) -> None:
        """Cuts nothing from now on."""
        self._countdown = 0

    def is_to_be_cut(self, role: bytes) -> bool:
        """Counts a COMMIT of the role; returns whether it is the one to cut."""
        if role != self._role or self._countdown == 0:
            return False
        self._countdown -= 1
        return self._countdown == 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Connection(self, reader, writer).serve()
        except asyncio.CancelledError:
            pass  # stopped: asyncio would report it as a server error
        finally:
            self._connections.discard(task)
            writer.transport.abort()


class _Connection:
    """A client, and PostgreSQL behind it."""

    def __init__(
        self, proxy: CommitProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = reader, writer
        self._role = b""
        # In the extended protocol: statements, and their portals, by name.
        self._statements: dict[bytes, bool] = {}  # whether it is a COMMIT
        self._portals: dict[bytes, bool] = {}
        self._withheld: bytes | None = None  # the answer to the COMMIT to cut

    async def serve(self) -> None:
        """Forwards messages until either side has closed."""
        try:
            self._from_server, self._to_server = await asyncio.open_connection(
                LOOPBACK, self._proxy.upstream
            )
        except OSError:
            return  # PostgreSQL is down, and its clients see a closed connection
        ways = [asyncio.create_task(self._pass_down()), asyncio.create_task(self._pass_up())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._to_server.transport.abort()

    async def _pass_up(self) -> None:
        """Forwards from the client to PostgreSQL, message by message."""
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._pass_start_up()
            while True:
                kind = await self._from_client.readexactly(1)
                length, body = await self._rest()
                if self._commits(kind, body) and self._proxy.is_to_be_cut(self._role):
                    self._withheld = b""
                self._to_server.write(kind + length + body)
                await self._to_server.drain()

    async def _pass_start_up(self) -> None:
        while True:
            length, body = await self._rest()
            self._to_server.write(length + body)
            await self._to_server.drain()
            code = int.from_bytes(body[:4])
            if code not in ENCRYPTION_REQUESTS:
                if code != CANCEL_REQUEST:
                    names = body[4:].split(b"\0")
                    self._role = names[names.index(b"user") + 1]
                return

    async def _rest(self) -> tuple[bytes, bytes]:
        """Returns a message's length, which includes itself, and its content."""
        length = await self._from_client.readexactly(4)
        return length, await self._from_client.readexactly(int.from_bytes(length) - 4)

    def _commits(self, kind: bytes, body: bytes) -> bool:
        """Returns whether PostgreSQL commits at this message."""
        if kind == QUERY:
            return COMMIT.match(body) is not None
        if kind == PARSE:
            name, statement, _ = body.split(b"\0", 2)
            self._statements[name] = COMMIT.match(statement) is not None
        elif kind == BIND:
            portal, name, _ = body.split(b"\0", 2)
            self._portals[portal] = self._statements.get(name, False)
        return kind == EXECUTE and self._portals.get(body.split(b"\0", 1)[0], False)

    async def _pass_down(self) -> None:
        """Forwards from PostgreSQL to the client, up to the withheld answer."""
        with suppress(OSError):
            while chunk := await self._from_server.read(CHUNK):
                if self._withheld is None:
                    self._to_client.write(chunk)
                    await self._to_client.drain()
                    continue
                self._withheld += chunk
                # Only now is it certain that the transaction is committed.
                if READY_FOR_QUERY in self._withheld:
                    self._proxy.cut.set()
                    return
