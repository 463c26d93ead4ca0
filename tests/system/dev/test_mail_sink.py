"""The laptop's mail server."""

from __future__ import annotations

import email
import smtplib
import socket
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urlsplit

from dev.devstack.mail_sink import MailSink
from dev.devstack.ports import LOOPBACK, Ports, free_port


def mail(sink: MailSink, subject: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message.set_content("Grüße")
    address = urlsplit(sink.url)
    assert address.hostname
    with smtplib.SMTP(address.hostname, address.port or 0) as server:
        server.send_message(message, "saas@saas.example", ["ann@acme.example", "bob@acme.example"])


def test_each_message_is_a_file_and_they_are_in_order(tmp_path: Path) -> None:
    with MailSink(tmp_path / "mail", port=free_port()) as sink:
        for subject in ("first", "second", "third"):
            mail(sink, subject)
    kept = [email.message_from_bytes(path.read_bytes(), policy=SMTP) for path in sink.messages()]
    assert [message["Subject"] for message in kept] == ["first", "second", "third"]
    assert kept[0]["Return-Path"] == "<saas@saas.example>"
    assert kept[0].get_all("Delivered-To") == ["ann@acme.example", "bob@acme.example"]
    assert kept[0].get_content() == "Grüße\r\n"


def test_a_port_that_is_taken_is_left_to_its_owner(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with MailSink(tmp_path, port=port) as sink:
            assert sink.url != f"smtp://{LOOPBACK}:{port}"
            mail(sink, "arrives")
    assert len(sink.messages()) == 1


def test_it_is_on_the_same_port_the_next_time(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        with MailSink(tmp_path, port=free_port(), ports=Ports(tmp_path / "ports.json")) as sink:
            urls.append(sink.url)
    assert urls[0] == urls[1]


def test_one_whose_thread_has_died_is_started_again_on_its_port(tmp_path: Path) -> None:
    with MailSink(tmp_path, port=free_port()) as sink:
        url = sink.url
        controller = sink._controller
        assert controller is not None
        assert controller._thread is not None
        controller.loop.call_soon_threadsafe(controller.loop.stop)
        controller._thread.join()
        assert not sink.running
        sink.start()
        mail(sink, "arrives")
        assert (sink.url, len(sink.messages())) == (url, 1)
