"""A local mail server that delivers nothing and keeps each message as a file."""

from __future__ import annotations

import asyncio
import errno
import socket
import uuid
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from dev.devstack.ports import LOOPBACK, Ports
from dev.devstack.started import Started

PORT: Final = 1025  # the usual port of a mail sink
PORTS_NAME: Final = "mail"


class MailSink(Started):
    """An SMTP server on 127.0.0.1, in a thread of this process."""

    def __init__(self, directory: Path, *, port: int = PORT, ports: Ports | None = None) -> None:
        """
        Args:
            directory: where messages are kept as `<time>-<id>.eml`; created if missing.
            port: the first port to try, after the last one; any free one if both are taken.
            ports: keeps the last port; this object does if not given.
        """
        self.directory = directory.absolute()
        self._port = port
        self._ports = ports or Ports()
        self._controller: _Controller | None = None

    def start(self) -> None:
        """Starts it, and returns once it accepts mail."""
        self.stop()  # what is left of it, if it has died
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = _listen(self._ports, self._port)
        try:
            controller = _Controller(_Keeper(self.directory), listener)
            controller.start()
        except BaseException:
            listener.close()
            raise
        self._controller = controller

    def stop(self) -> None:
        """Stops it, and keeps the messages."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.end()

    @property
    def running(self) -> bool:
        """Whether it accepts mail."""
        return self._controller is not None and self._controller.is_alive

    def how_it_ended(self) -> str:
        """Returns how it has ended."""
        return "has stopped accepting mail"

    def log_tail(self, lines: int = 0) -> str:
        """Returns nothing: it has no log."""
        return ""

    @property
    def url(self) -> str:
        """The SMTP_URL of the server, once it has been started."""
        assert self._controller is not None, "the mail sink is not running"
        return f"smtp://{LOOPBACK}:{self._controller.port}"

    def messages(self) -> Sequence[Path]:
        """Returns the files of all messages, oldest first."""
        return sorted(self.directory.glob("*.eml"))


class _Controller(Controller):
    """A server on a socket that listens already, so that its port cannot be lost to another."""

    def __init__(self, keeper: _Keeper, listener: socket.socket) -> None:
        super().__init__(keeper, hostname=LOOPBACK, port=listener.getsockname()[1])
        self._listener = listener

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def end(self) -> None:
        if self.is_alive:
            self.stop()
        self._listener.close()

    def _create_server(self) -> Coroutine[Any, Any, asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self._listener)


def _listen(ports: Ports, preferred: int) -> socket.socket:
    for port in ports.candidates(PORTS_NAME, preferred):
        try:
            listener = socket.create_server((LOOPBACK, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        ports.keep(PORTS_NAME, port)
        return listener
    raise AssertionError("there is always another candidate")


class _Keeper:
    """The handler of aiosmtpd, which finds methods by their names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        traced = [f"Return-Path: <{envelope.mail_from}>"]
        traced += [f"Delivered-To: {recipient}" for recipient in envelope.rcpt_tos]
        content = envelope.content
        assert isinstance(content, bytes), "aiosmtpd must not decode"
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"
        unfinished = self._directory / f"{name}.part"
        unfinished.write_bytes("".join(f"{line}\r\n" for line in traced).encode() + content)
        unfinished.rename(unfinished.with_suffix(".eml"))
        return "250 kept"
