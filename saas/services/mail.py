"""Mail: a message that is the same at every attempt, and the SMTP server that takes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from functools import cache
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

import aiosmtplib
from temporalio.exceptions import ApplicationError

from saas.services.addresses import DomainInvalid, ascii_domain
from saas.settings import load_settings
from temporal_tenancy.core.errors import ConfigurationError

ANSWER_SECONDS: Final = 20.0  # for each of the server's answers
ADDRESS_MAX: Final = 254  # characters; RFC 5321, 4.5.3.1.3, without the brackets
SUBJECT_MAX: Final = 200  # characters

# Line ends of any kind would begin another header, and half a surrogate pair is no text.
_NO_HEADER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ADDRESS: Final = re.compile(r"([^\s@<>()\[\]\\,;:\"]{1,64})@([^\s@<>()\[\]\\,;:\"]{1,253})")
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3463, as 5.1.1
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class MailInvalid(ApplicationError):
    """The mail cannot be put into a message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class MailRefused(ApplicationError):
    """The mail server refuses the mail for good."""

    def __init__(self, message: str, *, answer: str) -> None:
        """`answer` is the server's, which may hold the address; `message` does not."""
        super().__init__(message, type=type(self).__name__, non_retryable=True)
        self.answer = answer


class MailDelayed(ApplicationError):
    """The mail server does not take the mail now."""

    def __init__(self, message: str, *, answer: str) -> None:
        """As for `MailRefused`."""
        super().__init__(message, type=type(self).__name__)
        self.answer = answer


@dataclass(frozen=True)
class Mail:
    """What is sent to one person."""

    id: str  # of the message, the same over all attempts; letters and digits
    to: str
    subject: str
    body: str
    at: datetime  # aware; when it was asked for


class MailServer:
    """An SMTP server, and who sends through it."""

    def __init__(self, url: str, sender: str) -> None:
        """
        Args:
            url: `smtp://user:password@host:port`, or `smtps://`, which begins with TLS. On the
                former TLS is taken where the server offers it, and demanded before a password
                leaves the machine.
            sender: `Name <address>`.

        Raises:
            ConfigurationError: one of them does not read so.
        """
        self._server = _read_url(url)
        name, address = parseaddr(sender)
        try:
            self._sender = deliverable(address, name)
        except (MailInvalid, ValueError):
            raise ConfigurationError("MAIL_FROM reads: Name <address@domain>.") from None

    def compose(self, mail: Mail) -> EmailMessage:
        """Returns the message; the same `mail` always makes the same bytes.

        Raises:
            MailInvalid: the address is none, or the subject would be more than a header.
        """
        if _NO_HEADER.search(mail.subject):
            raise MailInvalid("the subject of the mail is not one line of plain text.")
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = deliverable(mail.to)
        # An encoded word would be decoded on the way, and may hold anything.
        message["Subject"] = mail.subject.replace("=?", "= ?")
        message["Date"] = mail.at
        message["Message-ID"] = f"<{mail.id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no absence is answered
        message.set_content(mail.body)
        return message

    async def send(self, mail: Mail) -> None:
        """Hands the mail to the server, on a connection of its own.

        The message's id is the same at every attempt, so that whoever gets it twice can tell.

        Raises:
            MailInvalid: it cannot be put into a message.
            MailRefused: the server refuses it for good (5xx).
            MailDelayed: the server does not take it now (4xx), or does not answer.
        """
        message = self.compose(mail)
        server = self._server
        try:
            await aiosmtplib.send(
                message,
                sender=self._sender.addr_spec,
                recipients=[message["To"].addresses[0].addr_spec],
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=server.password,
                use_tls=server.tls,
                start_tls=server.start_tls,
                timeout=ANSWER_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            [refused] = error.recipients  # there is one recipient
            raise _refusal(refused.code, refused.message) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code, error.message) from None
        except aiosmtplib.SMTPNotSupported as error:
            raise MailRefused(
                "the mail server takes no address that is not ASCII. Give another one.",
                answer=str(error),
            ) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDelayed(
                f"the mail server {server.host}:{server.port} cannot be talked to "
                f"({type(error).__name__}). Is SMTP_URL right, and does it run?",
                answer=str(error),
            ) from None


def current_mail_server() -> MailServer:
    """The server that the environment names; raises `ConfigurationError` where it names none."""
    settings = load_settings()
    if settings.smtp_url is None:
        raise ConfigurationError(
            "this process has no mail server. Set SMTP_URL to smtp://user:password@host:port."
        )
    return _server(settings.smtp_url.get_secret_value(), settings.mail_from)


def deliverable(address: str, name: str = "") -> Address:
    """The address with its domain in ASCII, as every server takes it.

    Raises `MailInvalid` where `address` is not one address.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or _NO_HEADER.search(address) or len(address) > ADDRESS_MAX:
        raise MailInvalid("what it is addressed to is not one address. It reads: name@domain.")
    try:
        domain = ascii_domain(parts[2])
    except DomainInvalid:
        raise MailInvalid("the domain of its address is none. It reads: name@domain.") from None
    return Address(name, username=normalize("NFC", parts[1]), domain=domain)


@cache
def _server(url: str, sender: str) -> MailServer:
    return MailServer(url, sender)


@dataclass(frozen=True)
class _Server:
    host: str
    port: int
    tls: bool  # from the first byte
    start_tls: bool | None  # None: where the server offers it
    user: str | None
    password: str | None = field(repr=False)


def _read_url(url: str) -> _Server:
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port
        # An address of the network is none of IDNA's.
        host = host if host is None or ":" in host else ascii_domain(host)
    except ValueError:
        host, port, parsed = None, None, urlsplit("")
    if not host or parsed.scheme not in ("smtp", "smtps") or parsed.path not in ("", "/"):
        raise ConfigurationError("SMTP_URL reads smtp://user:password@host:port, or smtps://.")
    tls = parsed.scheme == "smtps"
    user = unquote(parsed.username) if parsed.username else None
    demanded = user is not None and host not in _LOOPBACK
    return _Server(
        host=host,
        port=port or (465 if tls else 587 if user else 25),
        tls=tls,
        start_tls=False if tls else (demanded or None),
        user=user,
        password=unquote(parsed.password) if parsed.password else None,
    )


def _refusal(code: int, answer: str) -> MailRefused | MailDelayed:
    """What the server's answer means. Only its codes are quoted: it may repeat the address."""
    enhanced = _ENHANCED.search(answer)
    said = f"{code} {enhanced[0]}" if enhanced else str(code)
    if 400 <= code < 500:
        return MailDelayed(f"the mail server does not take the mail now: {said}.", answer=answer)
    if code in (530, 534, 535, 538):
        return MailRefused(
            f"the mail server lets nobody in with the password of SMTP_URL: {said}. Correct it.",
            answer=answer,
        )
    return MailRefused(
        f"the mail server refuses the mail for good: {said}. Its row has the server's words; "
        "correct what they are about, and replay the job.",
        answer=answer,
    )
