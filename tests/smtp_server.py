"""A real SMTP server in a thread, whose answers a test decides."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP as POLICY

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dev.devstack.ports import LOOPBACK, free_port

USER, PASSWORD = "saas", "pass/word @1"


class Inbox:
    """What the server has taken, and what it is to answer."""

    def __init__(self, port: int) -> None:
        self.url = f"smtp://{LOOPBACK}:{port}"
        self.recipients: list[str] = []
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.refusals: list[str] = []  # of the next recipients, one each
        self.late_refusals: list[str] = []  # of the next messages
        self.attempts = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.attempts += 1
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.late_refusals:
            return self.late_refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        self.recipients += envelope.rcpt_tos
        self.raw.append(envelope.content)
        self.messages.append(email.message_from_bytes(envelope.content, policy=POLICY))
        return "250 taken"


@contextmanager
def smtp_server(
    port: int | None = None, *, utf8: bool = True, password: bool = False
) -> Iterator[Inbox]:
    """Runs a server; with `password` it takes mail from `USER` alone."""
    port = port or free_port()
    inbox = Inbox(port)
    controller = Controller(
        inbox,
        hostname=LOOPBACK,
        port=port,
        enable_SMTPUTF8=utf8,
        auth_required=password,
        auth_require_tls=False,
        authenticator=_authenticate if password else None,
    )
    controller.start()
    try:
        yield inbox
    finally:
        controller.stop()


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
) -> AuthResult:
    given = isinstance(data, LoginPassword) and (data.login, data.password)
    return AuthResult(success=given == (USER.encode(), PASSWORD.encode()), handled=False)
