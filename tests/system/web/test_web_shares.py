"""Limits on requests and their rate, by address and by tenant."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from processes.web.admission import Admission
from processes.web.door import Door
from processes.web.limits import Limits
from tests.fixtures.raw_http import connected, patience
from tests.fixtures.web import Web, answering

SOON = 0.15  # seconds, for what must come too late


def head(request: str, *headers: str, length: int | None = None) -> bytes:
    lines = [f"{request} HTTP/1.1", "Host: x", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def upload(key: str, length: int) -> bytes:
    kind = "Content-Type: text/csv"
    return head("POST /imports", f"Authorization: Bearer {key}", kind, length=length)


def claimed() -> tuple[str, ...]:
    """The headers of a webhook that anyone could have signed."""
    stamp = f"webhook-timestamp: {int(time.time())}"
    return "webhook-id: e", "webhook-signature: v1,x", stamp


@pytest.mark.parametrize("path", ["/imports", "/jobs/search.index", "/webhooks/payments/acme"])
async def test_a_body_that_keeps_no_rate_is_refused(door: Door, web: Web, path: str) -> None:
    quick = replace(Limits(), body_rate=1_000_000, body_window_seconds=SOON)
    async with answering(replace(door, admission=Admission(quick))) as url, connected(url) as raw:
        kind = "text/csv" if path == "/imports" else "application/json"
        key = f"Authorization: Bearer {web.keys['acme']}"
        await raw.send(head(f"POST {path}", key, f"Content-Type: {kind}", *claimed(), length=1_000))
        sending = asyncio.create_task(raw.trickle(b"x" * 1_000))
        status, told = await raw.answer()
        assert (status, b"The request's body took too long. Send it again." in told) == (408, True)
        sending.cancel()
    assert not list((web.folder / "storage").rglob("*.csv"))


async def test_a_body_may_take_long_where_it_keeps_the_rate(door: Door, web: Web) -> None:
    quick = replace(Limits(), body_rate=1, body_window_seconds=SOON * 3)
    async with answering(replace(door, admission=Admission(quick))) as url, connected(url) as raw:
        body = b"email\n" + b"a" * 60 + b"@x.example\n"
        await raw.send(upload(web.keys["acme"], len(body)))
        await raw.trickle(body)
        assert (await raw.answer())[0] == 202


# Invalid keys, and the limits of a tenant.


async def test_an_address_that_tries_keys_is_not_heard_for_a_while(door: Door, web: Web) -> None:
    admission = Admission(replace(Limits(), key_failures_per_minute=3))
    asked = "/imports/00000000-0000-0000-0000-000000000000"
    good = f"Authorization: Bearer {web.keys['acme']}"
    other = f"Authorization: Bearer {web.keys['globex']}"
    async with answering(replace(door, admission=admission)) as url:
        async with connected(url) as raw:
            assert await raw.get(asked, good) == 404
            for number in range(3):
                assert await raw.get(asked, f"Authorization: Bearer tk_{number:043}") == 401
            await raw.send(head(f"GET {asked}", f"Authorization: Bearer tk_{'A' * 43}"))
            refused = await raw.reader.readuntil(b"\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: " in refused.lower()
            assert b"too many invalid keys" in await raw.reader.readuntil(b"}")
        async with connected(url) as raw, connected(url, "127.0.0.2") as elsewhere:
            assert await raw.get(asked, other) == 429  # no one knows that it is one
            assert await raw.get(asked, good) == 404  # it was valid before
            assert await elsewhere.get(asked, other) == 404
            assert await elsewhere.get(asked, f"Authorization: Bearer tk_{'B' * 43}") == 401


async def test_uploads_at_once_are_counted_by_tenant_and_by_address(door: Door, web: Web) -> None:
    one = replace(Limits(), uploads_per_tenant=1, uploads_per_address=1)
    admission = Admission(one)
    async with (
        answering(replace(door, admission=admission)) as url,
        connected(url) as slow,
        connected(url) as same_address,
        connected(url, "127.0.0.2") as same_tenant,
        connected(url, "127.0.0.3") as neither,
    ):
        await slow.send(upload(web.keys["acme"], 8))
        async with patience("the upload"):
            while not admission.uploads.of("127.0.0.1"):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for raw, tenant, status in (
            (same_address, "globex", 429),
            (same_tenant, "acme", 429),
            (neither, "globex", 202),
        ):
            await raw.send(upload(web.keys[tenant], 8) + b"email\na\n")
            assert (await raw.answer())[0] == status
        await slow.send(b"email\na\n")
        assert (await slow.answer())[0] == 202


async def test_a_tenants_requests_at_once_are_counted(door: Door, web: Web) -> None:
    admission = Admission(replace(Limits(), requests_per_tenant=1))
    asked = "/imports/00000000-0000-0000-0000-000000000000"
    async with answering(replace(door, admission=admission)) as url, connected(url) as raw:
        with admission.tenant_requests.taken("acme"):
            assert await raw.get(asked, f"Authorization: Bearer {web.keys['acme']}") == 429
            assert await raw.get(asked, f"Authorization: Bearer {web.keys['globex']}") == 404
        assert await raw.get(asked, f"Authorization: Bearer {web.keys['acme']}") == 404


async def test_an_unsigned_webhooks_body_is_not_waited_for(web: Web) -> None:
    async with connected(web.url) as raw:
        await raw.send(
            b"POST /webhooks/payments/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"
        )
        assert (await raw.answer())[0] == 401


async def test_a_webhook_that_says_it_is_too_large_is_not_waited_for(web: Web) -> None:
    async with connected(web.url) as raw:
        await raw.send(
            b"POST /webhooks/payments/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
        )
        assert (await raw.answer())[0] == 413


async def test_webhooks_whose_body_is_waited_for_are_counted_by_address(
    door: Door, web: Web
) -> None:
    admission = Admission(replace(Limits(), webhooks_per_address=1))
    host = urlsplit(web.url).hostname or ""
    async with answering(replace(door, admission=admission)) as url, connected(url) as raw:
        with admission.webhooks.taken(host):
            await raw.send(head("POST /webhooks/payments/acme", *claimed(), length=0))
            assert (await raw.answer())[0] == 429
        async with connected(url, "127.0.0.2") as other:
            await other.send(head("POST /webhooks/payments/acme", *claimed(), length=0))
            assert (await other.answer())[0] == 401
