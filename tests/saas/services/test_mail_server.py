"""Mail as a real server receives it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import pytest

from dev.devstack.ports import LOOPBACK, free_port
from saas.services.mail import (
    Mail,
    MailDelayed,
    MailInvalid,
    MailRefused,
    MailServer,
    current_mail_server,
)
from temporal_tenancy.core.errors import ConfigurationError
from tests.fixtures.smtp_server import PASSWORD, USER, Inbox, smtp_server

SENDER = "Airline métering <no-reply@saas.example>"
MAIL = Mail(
    id="0123abcd",
    to="ann@acme.example",
    subject="Import done",
    body="All 3 rows.\n.\nBye",
    at=datetime(2026, 11, 22, 12, tzinfo=UTC),
)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with smtp_server() as inbox:
        yield inbox


def text_of(message: EmailMessage) -> str:
    text: str = message.get_content()
    return text.replace("\r\n", "\n").rstrip("\n")


async def send(inbox: Inbox, sender: str = SENDER, **changes: Any) -> None:
    await MailServer(inbox.url, sender).send(dataclasses.replace(MAIL, **changes))


async def test_a_mail_arrives_as_it_was_written(inbox: Inbox) -> None:
    await send(inbox)
    [message] = inbox.messages
    assert inbox.recipients == ["ann@acme.example"]
    assert message["From"].addresses[0].display_name == "Airline métering"
    assert message["From"].addresses[0].addr_spec == "no-reply@saas.example"
    assert (message["To"], message["Subject"]) == ("ann@acme.example", "Import done")
    assert message["Message-ID"] == "<0123abcd@saas.example>"
    assert message["Date"].datetime == MAIL.at
    assert message["Auto-Submitted"] == "auto-generated"
    assert text_of(message) == MAIL.body


async def test_every_attempt_sends_the_same_bytes(inbox: Inbox) -> None:
    await send(inbox)
    await send(inbox)
    first, second = inbox.raw
    assert first == second


@pytest.mark.parametrize(
    "subject",
    [
        "Importación terminada: 3 filas ✈",
        "取込み完了 " * 12,
        "é" * 200,
        "a" * 200,
        "ends in a space ",
    ],
)
async def test_a_subject_in_any_script_arrives_whole(inbox: Inbox, subject: str) -> None:
    await send(inbox, subject=subject)
    [message] = inbox.messages
    assert message["Subject"].strip() == subject.strip()
    headers = inbox.raw[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert headers[0].startswith(b"From:")
    assert max(map(len, headers)) <= 998
    assert all(line.isascii() for line in headers)


@pytest.mark.parametrize("body", ["ж" * 5_000, "a" * 5_000, "", "\n\n", "tab\there", "From me"])
async def test_a_body_in_any_script_arrives_whole(inbox: Inbox, body: str) -> None:
    await send(inbox, body=body)
    [message] = inbox.messages
    assert text_of(message) == body.rstrip("\n")
    assert max(map(len, inbox.raw[0].split(b"\r\n"))) <= 998


async def test_a_subject_that_reads_as_an_encoded_word_is_not_decoded(inbox: Inbox) -> None:
    await send(inbox, subject="=?utf-8?q?a=0D=0ABcc:_eve@evil.example?=")
    [message] = inbox.messages
    assert message["Subject"] == "= ?utf-8?q?a=0D=0ABcc:_eve@evil.example?="
    assert "Bcc" not in message


INJECTED = [
    "a\nBcc: eve@evil.example",
    "a\r\nBcc: eve@evil.example",
    "a\rBcc: eve@evil.example",
    "a\x0bb",
    "a\x85b",
    "a\u2028b",
    "a\x00b",
    "a\ud800b",
]


@pytest.mark.parametrize("subject", INJECTED)
async def test_a_subject_that_would_begin_another_header_is_refused(
    inbox: Inbox, subject: str
) -> None:
    with pytest.raises(MailInvalid, match=r"the subject of the mail is not one line"):
        await send(inbox, subject=subject)
    assert inbox.attempts == 0


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ann",
        "@acme.example",
        "ann@",
        "ann@acme.example, eve@evil.example",
        "ann@acme.example\r\nBcc: eve@evil.example",
        "ann@acme.example>\r\nRCPT TO:<eve@evil.example",
        "Ann <ann@acme.example>",
        '"ann eve"@acme.example',
        "ann@evil.example@acme.example",
        "ann@acme.example SIZE=1",
        "ann\x00@acme.example",
        f"{'a' * 65}@acme.example",
        f"ann@{'a.' * 130}example",
        "ann@acme..example",
        "['ann@acme.example']",
    ],
)
async def test_what_is_not_one_address_is_refused_and_not_repeated(inbox: Inbox, to: str) -> None:
    with pytest.raises(MailInvalid) as caught:
        await send(inbox, to=to)
    assert "acme" not in str(caught.value)
    assert caught.value.non_retryable
    assert inbox.attempts == 0


async def test_a_domain_in_another_script_is_sent_in_ascii(inbox: Inbox) -> None:
    await send(inbox, to="ann@müller.example")
    assert inbox.recipients == ["ann@xn--mller-kva.example"]


async def test_a_name_in_another_script_is_sent_where_the_server_takes_it(inbox: Inbox) -> None:
    await send(inbox, to="zoë@acme.example")
    assert inbox.recipients == ["zoë@acme.example"]
    assert inbox.messages[0]["To"] == "zoë@acme.example"


async def test_a_server_that_takes_ascii_only_says_so_for_good() -> None:
    refused = pytest.raises(MailRefused, match="accepts only ASCII addresses")
    with smtp_server(utf8=False) as inbox, refused as caught:
        await send(inbox, to="zoë@acme.example")
    assert caught.value.non_retryable


@pytest.mark.parametrize("late", [False, True])
async def test_a_temporary_refusal_may_be_tried_again(inbox: Inbox, late: bool) -> None:
    said = "451 4.7.1 <ann@acme.example> greylisted, come back"
    (inbox.late_refusals if late else inbox.refusals).append(said)
    with pytest.raises(MailDelayed) as caught:
        await send(inbox)
    assert not caught.value.non_retryable
    assert caught.value.message == "the mail server does not accept the mail now: 451 4.7.1."
    assert "greylisted" in caught.value.answer


@pytest.mark.parametrize("late", [False, True])
async def test_a_refusal_for_good_is_told_by_its_codes(inbox: Inbox, late: bool) -> None:
    said = "550 5.1.1 <ann@acme.example> user unknown"
    (inbox.late_refusals if late else inbox.refusals).append(said)
    with pytest.raises(MailRefused) as caught:
        await send(inbox)
    assert caught.value.non_retryable
    assert caught.value.message.startswith(
        "the mail server rejects the mail permanently: 550 5.1.1. "
    )
    assert "ann" not in str(caught.value)
    assert "user unknown" in caught.value.answer


async def test_a_server_that_does_not_answer_is_named() -> None:
    port = free_port()
    with pytest.raises(MailDelayed, match=rf"the mail server {LOOPBACK}:{port} cannot be reached"):
        await MailServer(f"smtp://{LOOPBACK}:{port}", SENDER).send(MAIL)


def with_password(inbox: Inbox, password: str) -> MailServer:
    url = inbox.url.replace("//", f"//{USER}:{quote(password, safe='')}@")
    return MailServer(url, SENDER)


INSECURE = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@INSECURE
async def test_a_password_of_any_characters_lets_us_in() -> None:
    with smtp_server(password=True) as inbox:
        await with_password(inbox, PASSWORD).send(MAIL)
        assert len(inbox.messages) == 1


@INSECURE
async def test_a_wrong_password_is_no_fault_of_the_mails() -> None:
    refused = pytest.raises(MailRefused, match=r"rejects the user or password in SMTP_URL: 535")
    with smtp_server(password=True) as inbox, refused:
        await with_password(inbox, "wrong").send(MAIL)


@pytest.mark.parametrize(
    ("url", "tls", "start_tls", "port"),
    [
        ("smtp://mail.example", False, None, 25),
        ("smtp://user:s3cret@mail.example", False, True, 587),
        ("smtps://user:s3cret@mail.example", True, False, 465),
        ("smtp://user:s3cret@127.0.0.1:1025", False, None, 1025),  # it stays on the machine
    ],
)
def test_a_password_leaves_the_machine_under_tls_only(
    url: str, tls: bool, start_tls: bool | None, port: int
) -> None:
    server = MailServer(url, SENDER)._server
    assert (server.tls, server.start_tls, server.port) == (tls, start_tls, port)
    assert "s3cret" not in repr(server)


@pytest.mark.parametrize(
    "url", ["", "mail.example", "http://mail.example", "smtp://", "smtp://h:port", "smtp://h/path"]
)
def test_an_address_that_is_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^SMTP_URL must be smtp://user"):
        MailServer(url, SENDER)


@pytest.mark.parametrize("sender", ["", "nobody", "A <@b.example>", "A <a@b..example>"])
def test_a_sender_without_an_address_is_refused(sender: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^MAIL_FROM must be"):
        MailServer("smtp://mail.example", sender)


def test_a_process_without_a_mail_server_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SMTP_URL", raising=False)
    with pytest.raises(ConfigurationError, match="Set SMTP_URL"):
        current_mail_server()
