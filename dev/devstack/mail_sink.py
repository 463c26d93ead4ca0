"""A local mail server that delivers nothing and keeps each message as a file."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from dev.devstack.ports import LOOPBACK, prefer
from dev.devstack.started import Started

PORT: Final = 1025  # the usual port of a mail sink


class MailSink(Started):
    """An SMTP server on 127.0.0.1, in a thread of this process."""

    def __init__(self, directory: Path, *, port: int = PORT) -> None:
        """
        Args:
            directory: where messages are kept as `<time>-<id>.eml`; created if missing.
            port: the preferred port; any free one if it is taken.
        """
        self.directory = directory.absolute()
        self._port = port
        self._controller: Controller | None = None

    def start(self) -> None:
        """Starts it, and returns once it accepts mail."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        controller = Controller(_Keeper(self.directory), hostname=LOOPBACK, port=prefer(self._port))
        controller.start()
        self._controller = controller

    def stop(self) -> None:
        """Stops it, and keeps the messages."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @property
    def url(self) -> str:
        """The SMTP_URL of the running server."""
        assert self._controller is not None, "the mail sink is not running"
        return f"smtp://{LOOPBACK}:{self._controller.port}"

    def messages(self) -> Sequence[Path]:
        """Returns the files of all messages, oldest first."""
        return sorted(self.directory.glob("*.eml"))


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
