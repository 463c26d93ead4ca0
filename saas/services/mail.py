"""Sends mail by SMTP; every attempt sends the same message."""

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

from temporalio.exceptions import ApplicationError

from saas.services.addresses import DomainInvalid, ascii_domain
from saas.settings import load_settings
from temporal_tenancy import ConfigurationError

ANSWER_SECONDS: Final = 20.0  # timeout for each answer of the server
ADDRESS_MAX: Final = 254  # characters; RFC 5321, 4.5.3.1.3, without the brackets
SUBJECT_MAX: Final = 200  # characters

# Any line ending would start another header, and a lone surrogate cannot be encoded.
_NO_HEADER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ADDRESS: Final = re.compile(r"([^\s@<>()\[\]\\,;:\"]{1,64})@([^\s@<>()\[\]\\,;:\"]{1,253})")
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3463, such as 5.1.1
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class MailInvalid(ApplicationError):
    """The mail cannot be made into a message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class MailRefused(ApplicationError):
    """The mail server rejects the mail permanently."""

    def __init__(self, message: str, *, answer: str) -> None:
        """`answer` is the server's and may contain the address; `message` does not."""
        super().__init__(message, type=type(self).__name__, non_retryable=True)
        self.answer = answer


class MailDelayed(ApplicationError):
    """The mail server does not accept the mail now."""

    def __init__(self, message: str, *, answer: str) -> None:
        """Takes the same arguments as `MailRefused`."""
        super().__init__(message, type=type(self).__name__)
        self.answer = answer


@dataclass(frozen=True)
class Mail:
    """A mail to one person."""

    id: str  # the message's id, the same for all attempts; letters and digits
    to: str
    subject: str
    body: str
    at: datetime  # aware; when the mail was requested


class MailServer:
    """An SMTP server and the sender's address."""

    def __init__(self, url: str, sender: str) -> None:
        """
        Args:
            url: `smtp://user:password@host:port`, or `smtps://` for TLS from the first byte.
                `smtp://` uses STARTTLS if the server offers it, and requires it before sending a
                password to another machine.
            sender: `Name <address>`.

        Raises:
            ConfigurationError: one of them is malformed.
        """
        self._server = _read_url(url)
        name, address = parseaddr(sender)
        try:
            self._sender = deliverable(address, name)
        except (MailInvalid, ValueError):
            raise ConfigurationError("MAIL_FROM must be: Name <address@domain>.") from None

    def compose(self, mail: Mail) -> EmailMessage:
        """Returns the message; the same `mail` always gives the same bytes.

        Raises:
            MailInvalid: the address is not valid, or the subject is not a single line of text.
        """
        if _NO_HEADER.search(mail.subject):
            raise MailInvalid("the subject of the mail is not one line of plain text.")
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = deliverable(mail.to)
        # Recipients decode encoded words, which could contain anything.
        message["Subject"] = mail.subject.replace("=?", "= ?")
        message["Date"] = mail.at
        message["Message-ID"] = f"<{mail.id}@{self._sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents out-of-office replies
        message.set_content(mail.body)
        return message

    async def send(self, mail: Mail) -> None:
        """Sends the mail to the server, on its own connection.

        The Message-ID is the same for every attempt, so that a recipient can recognise a duplicate.

        Raises:
            MailInvalid: it cannot be made into a message.
            MailRefused: the server rejects it permanently (5xx).
            MailDelayed: the server does not accept it now (4xx), or does not answer.
        """
        import aiosmtplib  # here: the job's declaration does without

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
                "the mail server accepts only ASCII addresses. Use another address.",
                answer=str(error),
            ) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDelayed(
                f"the mail server {server.host}:{server.port} cannot be reached "
                f"({type(error).__name__}). Check that SMTP_URL is right and the server runs.",
                answer=str(error),
            ) from None


def current_mail_server() -> MailServer:
    """Returns the server that SMTP_URL names; raises `ConfigurationError` if it is not set."""
    settings = load_settings()
    if settings.smtp_url is None:
        raise ConfigurationError(
            "this process has no mail server. Set SMTP_URL to smtp://user:password@host:port."
        )
    return _server(settings.smtp_url.get_secret_value(), settings.mail_from)


def deliverable(address: str, name: str = "") -> Address:
    """Returns the address with its domain in ASCII, which every server accepts.

    Raises `MailInvalid` if `address` is not a single valid address.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or _NO_HEADER.search(address) or len(address) > ADDRESS_MAX:
        raise MailInvalid("the recipient is not a single address. Use name@domain.")
    try:
        domain = ascii_domain(parts[2])
    except DomainInvalid:
        raise MailInvalid("the recipient's domain is not valid. Use name@domain.") from None
    return Address(name, username=normalize("NFC", parts[1]), domain=domain)


@cache
def _server(url: str, sender: str) -> MailServer:
    return MailServer(url, sender)


@dataclass(frozen=True)
class _Server:
    host: str
    port: int
    tls: bool  # from the first byte
    start_tls: bool | None  # None: if the server offers it
    user: str | None
    password: str | None = field(repr=False)


def _read_url(url: str) -> _Server:
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port
        # IDNA does not apply to an IPv6 address.
        host = host if host is None or ":" in host else ascii_domain(host)
    except ValueError:
        host, port, parsed = None, None, urlsplit("")
    if not host or parsed.scheme not in ("smtp", "smtps") or parsed.path not in ("", "/"):
        raise ConfigurationError("SMTP_URL must be smtp://user:password@host:port, or smtps://.")
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
    """Returns the error for the server's answer, quoting only codes: it may repeat the address."""
    enhanced = _ENHANCED.search(answer)
    codes = f"{code} {enhanced[0]}" if enhanced else str(code)
    if 400 <= code < 500:
        return MailDelayed(f"the mail server does not accept the mail now: {codes}.", answer=answer)
    if code in (530, 534, 535, 538):
        return MailRefused(
            f"the mail server rejects the user or password in SMTP_URL: {codes}. Correct it.",
            answer=answer,
        )
    return MailRefused(
        f"the mail server rejects the mail permanently: {codes}. The mail's row has the server's "
        "answer; fix the cause and replay the job.",
        answer=answer,
    )
