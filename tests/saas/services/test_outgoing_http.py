"""HTTP to addresses that tenants set: what is called, what is rejected, what an answer means."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from saas.services import outgoing_http as module
from saas.services.outgoing_http import (
    AddressRefused,
    Answer,
    AnswerRefused,
    OutsideUnavailable,
    Resolver,
    outgoing_http,
    retry_after,
)
from tests.fixtures.outside import serving

NOW = dt.datetime(2026, 11, 22, 6, tzinfo=dt.UTC)


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.headers['host']} {request.url.query}")


async def status(request: Request) -> Response:
    headers = {"location": "http://127.0.0.1:1/", **dict(request.query_params)}
    return PlainTextResponse("hunter2", int(request.path_params["status"]), headers)


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)  # makes a lost connection visible

    return StreamingResponse(pieces())


APP = Starlette(
    routes=[
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/status/{status}", status),
        Route("/endless", endless),
    ]
)


@pytest.fixture
async def partner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Returns the URL of an allowed server on this machine."""
    async with serving(APP) as port:
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"elsewhere:1, 127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


async def get(
    url: str,
    *,
    resolve: Resolver | None = None,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> Answer:
    async with outgoing_http(resolve=resolve, **(limits or {})) as http:
        return await http.request("GET", url, **options)


def answers(*addresses: Sequence[str]) -> Resolver:
    """A resolver that gives another answer at each call, and fails in the end."""
    left = iter(addresses)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return next(left)

    return resolve


async def test_an_answer_comes_with_its_status_and_body(partner: str) -> None:
    answer = await get(f"{partner}/echo?a=1", params={"cursor": "x y"})
    assert answer == Answer(200, f"{partner.removeprefix('http://')} a=1&cursor=x+y".encode())


# What is not called.


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://localhost/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/",
    ],
)
async def test_an_address_inside_is_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(AddressRefused, match="does not lead to a public address") as caught:
        await get(url)
    assert caught.value.non_retryable
    # Already where it is set up, not only when it is requested.
    with pytest.raises(AddressRefused, match="does not lead to a public address"):
        module.require_requestable(url)


@pytest.mark.parametrize("url", ["https://93.184.216.34/", "https://[2606:2800:220:1::1]/"])
def test_a_public_address_may_be_set_up(url: str) -> None:
    assert module.require_requestable(url) == url


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "100.64.0.1", "fd00::1", "224.0.0.1"]
)
async def test_a_name_that_leads_inside_is_refused_without_telling_where(inside: str) -> None:
    for addresses in ([inside], ["93.184.216.34", inside]):
        with pytest.raises(AddressRefused, match=r"metadata\.example does not lead") as caught:
            await get("https://metadata.example/", resolve=answers(addresses))
        assert inside not in str(caught.value)


async def test_a_name_that_is_bound_anew_leads_to_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("the other")(scope, receive, send)

    async with serving(APP) as port, serving(other, host="127.0.0.2", port=port):
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"partner.example:{port}")
        resolve = answers(["127.0.0.1"], ["127.0.0.2"])
        async with outgoing_http(resolve=resolve) as http:
            for _ in range(2):
                answer = await http.request("GET", f"http://partner.example:{port}/echo")
                assert answer.body == f"partner.example:{port} ".encode()
            # Its second name, at the same port, is resolved and checked separately.
            with pytest.raises(AddressRefused):
                await http.request("GET", f"https://other.example:{port}/echo")


async def test_the_first_address_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(APP) as port:
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"partner.example:{port}")
        resolve = answers(["127.0.0.3", "::1", "127.0.0.1"])
        answer = await get(f"http://partner.example:{port}/echo", resolve=resolve)
        assert answer.body == f"partner.example:{port} ".encode()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://example.com/", "is not https"),
        ("ftp://example.com/", "is not https"),
        ("file:///etc/passwd", "has no host"),
        ("/relative", "has no host"),
        ("https://", "has no host"),
        ("https://user:hunter2@example.com/", "contains credentials"),
        ("https://0177.0.0.1/", "is malformed"),
        ("https://127.0.0.1%00.example.com/", "is malformed"),
        ("https://exa mple.com/", "is malformed"),
        ("https://example.com:99999/", "is malformed"),
        ("https://example.com/\x00", "is malformed"),
    ],
)
async def test_a_url_that_is_none_to_call_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(AddressRefused, match=complaint) as caught:
        await get(url, resolve=answers(["93.184.216.34"]))
    assert "hunter2" not in str(caught.value)


async def test_allowed_is_a_port_and_not_a_host(partner: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(AddressRefused):
            await get(f"http://127.0.0.1:{other.getsockname()[1]}/")
    with pytest.raises(AddressRefused):
        await get(partner.replace("127.0.0.1", "localhost"))


# What an answer means.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(partner: str, code: int) -> None:
    with pytest.raises(AnswerRefused, match=f"answered {code}, a redirect"):
        await get(f"{partner}/status/{code}")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
async def test_what_no_retry_can_change_is_not_tried_again(partner: str, code: int) -> None:
    with pytest.raises(AnswerRefused, match=rf"127\.0\.0\.1 answered {code}\.") as caught:
        await get(f"{partner}/status/{code}")
    assert caught.value.non_retryable
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(partner: str, code: int) -> None:
    with pytest.raises(OutsideUnavailable, match=f"answered {code}") as caught:
        await get(f"{partner}/status/{code}")
    assert not caught.value.non_retryable
    assert caught.value.next_retry_delay is None


@pytest.mark.parametrize("code", [429, 503])
async def test_who_asks_to_be_left_alone_is(partner: str, code: int) -> None:
    with pytest.raises(OutsideUnavailable) as caught:
        await get(f"{partner}/status/{code}?retry-after=7")
    assert caught.value.next_retry_delay == dt.timedelta(seconds=7)


async def test_who_asks_for_too_long_is_left_to_a_later_run(partner: str) -> None:
    with pytest.raises(AnswerRefused, match="asks to wait 1 day") as caught:
        await get(f"{partner}/status/429?retry-after=86400")
    assert caught.value.non_retryable


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 22 Nov 2026 06:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 06:01:30 -0000", 90),
        ("Sunday, 22-Nov-26 06:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 05:00:00 GMT", 0),
        ("99999999999999999999", 10**9),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int | None) -> None:
    expected = None if seconds is None else dt.timedelta(seconds=seconds)
    assert retry_after(value, NOW) == expected


async def test_an_answer_without_end_is_cut_off(partner: str) -> None:
    with pytest.raises(AnswerRefused, match="more than 100,000 bytes"):
        await get(f"{partner}/endless", limits={"body_max_bytes": 100_000})


async def test_a_compressed_answer_is_refused(partner: str) -> None:
    with pytest.raises(AnswerRefused, match="compressed"):
        await get(f"{partner}/status/200?content-encoding=gzip")


async def test_an_answer_that_takes_too_long_is_given_up(partner: str) -> None:
    limits = {"exchange_timeout": 0.05, "body_max_bytes": 2**40}  # the latter does not stop it
    with pytest.raises(OutsideUnavailable, match="does not answer in time"):
        await get(f"{partner}/endless", limits=limits)


async def test_who_is_not_there_may_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", at)
        with pytest.raises(OutsideUnavailable, match=r"127\.0\.0\.1 does not take the connection"):
            await get(f"http://{at}/")
    with pytest.raises(OutsideUnavailable, match="does not take the connection"):
        await get("https://nowhere.example/", resolve=answers([]))


@pytest.mark.parametrize("credential", ["hunter2\r\nX: y", "hunter2ä"])
async def test_a_credential_that_is_no_header_is_not_told(partner: str, credential: str) -> None:
    with pytest.raises((OutsideUnavailable, AnswerRefused)) as caught:
        await get(f"{partner}/echo", headers={"Authorization": f"Bearer {credential}"})
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__


# TLS.


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A certificate and key for partner.example that this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner.example")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("partner.example")]), False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "partner.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    module._tls.cache_clear()
    yield pem
    module._tls.cache_clear()


async def test_tls_asks_for_the_name_though_the_address_is_connected_to(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(APP, ssl_certfile=str(certificate)) as port:
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"partner.example:{port},impostor.example:{port}")
        url = f"https://partner.example:{port}/echo"
        answer = await get(url, resolve=answers(["127.0.0.1"]))
        assert answer.body == f"partner.example:{port} ".encode()
        # Trusted, but for another name.
        with pytest.raises(OutsideUnavailable, match="does not take the connection"):
            await get(url.replace("partner", "impostor"), resolve=answers(["127.0.0.1"]))
