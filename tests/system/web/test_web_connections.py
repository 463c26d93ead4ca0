"""The API's connections: slow ones are closed, heavy callers make room, others continue.

The server is the door's own; the application behind it is as small as can be where it does not
matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from processes.web.admission import Admission, Admitted
from processes.web.answers import Answers
from processes.web.app import create_app
from processes.web.connections import CALLER_ENDED, DoorProtocol
from processes.web.door import Door
from processes.web.limits import Limits
from processes.web.server import GRACE_SECONDS, DoorServer
from tests.fixtures.raw_http import answers_in, connected, patience
from tests.fixtures.web import running_server, told_in

SOON = 0.15  # seconds, for what must come too late
LATE = 60.0  # seconds, for what is not
PATIENT = Limits(head_seconds=LATE, idle_seconds=LATE, write_seconds=LATE)


class Small:
    """An API with a small application: `url`, its open requests, and the callers that left."""

    def __init__(self, limits: Limits) -> None:
        self.admission = Admission(limits)
        self.held = asyncio.Event()  # a request to /held has arrived
        self.let_go = asyncio.Event()
        self.gone = asyncio.Event()  # a reader of /endless has left
        self.url = ""
        routes = [
            Route("/", self._hello, methods=["GET", "POST"]),
            Route("/healthz", self._hello),
            Route("/unread", self._unread, methods=["POST"]),
            Route("/held", self._held),
            Route("/drip", self._drip),
            Route("/endless", self._endless),
        ]
        app = Starlette(routes=routes)
        answers = Answers(Admitted(app, self.admission), drain_seconds=limits.drain_seconds)
        self.server = DoorServer(answers, self.admission)

    async def _hello(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body() or b"hello")

    async def _unread(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("not read")

    async def _held(self, request: Request) -> PlainTextResponse:
        self.held.set()
        await self.let_go.wait()
        return PlainTextResponse("let go")

    async def _drip(self, request: Request) -> StreamingResponse:
        async def drops() -> AsyncIterator[bytes]:
            for _ in range(5):
                await asyncio.sleep(SOON)
                yield b"."

        return StreamingResponse(drops())

    async def _endless(self, request: Request) -> StreamingResponse:
        async def flood() -> AsyncIterator[bytes]:
            try:
                while True:
                    await asyncio.sleep(0)
                    yield b"x" * 65_536
            finally:
                self.gone.set()

        return StreamingResponse(flood())


@asynccontextmanager
async def small(limits: Limits = PATIENT) -> AsyncIterator[Small]:
    door = Small(limits)
    async with running_server(door.server) as door.url:
        yield door


# Deadlines.


async def test_who_sends_nothing_is_not_waited_for() -> None:
    async with small(replace(PATIENT, head_seconds=SOON)) as door, connected(door.url) as raw:
        assert await raw.rest() == b""


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_that_comes_byte_by_byte_is_cut_off(first: bytes) -> None:
    """Each byte would restart a timeout between bytes."""
    async with small(replace(PATIENT, head_seconds=SOON)) as door, connected(door.url) as raw:
        if first:
            await raw.send(first)
            assert (await raw.answer())[0] == 200
        sending = asyncio.create_task(raw.trickle(b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 10_000))
        status, told = await raw.answer()
        assert (status, b"The request's head did not come." in told) == (408, True)
        assert await raw.rest() == b""
        sending.cancel()


async def test_a_connection_that_is_kept_and_not_used_is_closed() -> None:
    async with small(replace(PATIENT, idle_seconds=SOON)) as door, connected(door.url) as raw:
        assert await raw.get() == 200
        assert await raw.rest() == b""


async def test_a_body_that_comes_after_its_answer_is_not_waited_for_long() -> None:
    async with small(replace(PATIENT, idle_seconds=SOON)) as door, connected(door.url) as raw:
        await raw.send(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert (await raw.answer())[0] == 200
        sending = asyncio.create_task(raw.trickle(b"x" * 10_000))
        assert await raw.rest() == b""
        sending.cancel()


async def test_an_answer_that_takes_long_is_not_idle() -> None:
    limits = replace(PATIENT, head_seconds=SOON, idle_seconds=SOON, write_seconds=SOON)
    async with small(limits) as door, connected(door.url) as raw:
        await raw.send(b"GET /drip HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await raw.rest()).count(b"1\r\n.\r\n") == 5


async def test_who_does_not_read_is_not_written_to_for_long() -> None:
    async with small(replace(PATIENT, write_seconds=SOON)) as door, connected(door.url) as raw:
        await raw.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        async with patience("the end of what is sent"):
            await door.gone.wait()
        await raw.rest()


async def test_who_reads_as_he_can_gets_everything() -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        await raw.send(b"x" * 3_000_000)
        status, body = await raw.answer()
        assert (status, len(body)) == (200, 3_000_000)


# Limits on callers.


async def test_who_comes_new_is_answered_however_many_connections_wait() -> None:
    """The longest-waiting request of the address with the most is closed."""
    limits = replace(PATIENT, connections=20, requests=10)
    async with small(limits) as door, AsyncExitStack() as stack:
        alone = await stack.enter_async_context(connected(door.url, "127.0.0.2"))
        many = [
            await stack.enter_async_context(connected(door.url, "127.0.0.3")) for _ in range(19)
        ]
        for number in range(5):
            newcomer = await stack.enter_async_context(connected(door.url, f"127.0.1.{number}"))
            assert await newcomer.get() == 200
            assert await many[number].rest() == b""
        assert await many[5].get() == 200
        assert await alone.get() == 200
        assert len(door.server.connections) == 20


async def test_no_address_has_more_connections_than_its_share() -> None:
    limits = replace(PATIENT, connections_per_address=3)
    async with small(limits) as door, AsyncExitStack() as stack:
        first = [await stack.enter_async_context(connected(door.url)) for _ in range(3)]
        other = await stack.enter_async_context(connected(door.url, "127.0.0.2"))
        another = await stack.enter_async_context(connected(door.url))
        assert await another.get() == 200
        assert await first[0].rest() == b""
        assert await first[1].get() == 200
        assert await other.get() == 200


async def test_where_all_of_an_addresss_connections_are_busy_it_gets_no_other() -> None:
    limits = replace(PATIENT, connections_per_address=1)
    async with small(limits) as door, connected(door.url) as busy:
        await busy.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await door.held.wait()
        async with connected(door.url) as refused, connected(door.url, "127.0.0.2") as other:
            status, told = await refused.answer()
            assert (status, b"There are too many connections." in told) == (429, True)
            assert await other.get() == 200
        door.let_go.set()
        assert (await busy.answer())[0] == 200


async def test_no_address_has_more_requests_at_once_than_its_share() -> None:
    limits = replace(PATIENT, requests_per_address=1)
    async with small(limits) as door, connected(door.url) as busy, connected(door.url) as raw:
        await busy.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await door.held.wait()
        await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        status, told = await raw.answer()
        assert (status, b"There are too many requests. Try again later." in told) == (429, True)
        assert await raw.get("/healthz") == 200
        async with connected(door.url, "127.0.0.2") as other:
            assert await other.get() == 200
        door.let_go.set()
        assert (await busy.answer())[0] == 200
        assert await raw.get() == 200


async def test_health_is_told_while_the_door_does_all_it_can() -> None:
    async with small(replace(PATIENT, requests=1)) as door, connected(door.url) as busy:
        await busy.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await door.held.wait()
        async with (
            connected(door.url, "127.0.0.2") as other,
            connected(door.url, "127.0.0.3") as asking,
        ):
            await other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            status, told = await other.answer()
            assert (status, b"The server is busy. Try again in a moment." in told) == (503, True)
            assert await other.rest() == b""
            assert await asking.get("/healthz") == 200
        door.let_go.set()


PROXY = (ip_network("127.0.0.9/32"),)


async def test_behind_a_trusted_proxy_callers_count_and_not_the_proxy() -> None:
    limits = replace(
        PATIENT, trusted_proxies=PROXY, requests_per_address=1, connections_per_address=1
    )
    async with (
        small(limits) as door,
        connected(door.url, "127.0.0.9") as busy,
        connected(door.url, "127.0.0.9") as raw,
    ):
        await busy.send(b"GET /held HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        await door.held.wait()
        assert await raw.get("/", "X-Forwarded-For: 192.0.2.2") == 200
        assert await raw.get("/", "X-Forwarded-For: 192.0.2.1") == 429
        assert await raw.get("/", "X-Forwarded-For: 192.0.2.2, 192.0.2.1") == 429
        door.let_go.set()


async def test_who_is_no_trusted_proxy_speaks_for_itself_only() -> None:
    limits = replace(PATIENT, trusted_proxies=PROXY, requests_per_address=1)
    async with small(limits) as door, connected(door.url) as busy, connected(door.url) as raw:
        await busy.send(b"GET /held HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        await door.held.wait()
        assert await raw.get("/", "X-Forwarded-For: 192.0.2.2") == 429
        door.let_go.set()


async def test_a_stop_does_not_wait_for_who_says_nothing() -> None:
    async with asyncio.timeout(GRACE_SECONDS - 1), AsyncExitStack() as stack:
        async with small() as door:
            idle = await stack.enter_async_context(connected(door.url))
            assert await idle.get() == 200
            half = await stack.enter_async_context(connected(door.url))
            await half.send(b"GET / HT")
            mute = await stack.enter_async_context(connected(door.url))
        assert [await raw.rest() for raw in (idle, half, mute)] == [b""] * 3


# Ambiguous messages.

BODY = b"\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(message, id=name)
        for name, message in {
            "length and coding": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n" + BODY,
            "coding and length": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 5\r\n" + BODY,
            "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Content-Length: 6\r\n\r\nhello",
            "a length twice": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Content-Length: 5\r\n\r\nhello",
            "lengths in a list": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
            "a signed length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
            "an empty length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
            "another coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n" + BODY,
            "two codings": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n"
            + BODY,
            "a coding twice": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Transfer-Encoding: chunked\r\n" + BODY,
            "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            + BODY,
            "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n Content-Length: 5\r\n\r\n",
            "a folded coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n"
            + BODY,
            "a bare LF": b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
            "bare LFs": b"GET / HTTP/1.1\nHost: x\n\n",
            "a bare CR": b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
            "a blank before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
            "a bare LF behind a chunk's size": b"POST / HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            "a bare LF in a chunk's extension": b"POST / HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
            "a bare LF at the end of the chunks": b"POST / HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n",
            "a trailer with a bare LF": b"POST / HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\n\n",
            "a chunk that is longer than it says": b"POST / HTTP/1.1\r\nHost: x\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
            "no host": b"GET / HTTP/1.1\r\n\r\n",
            "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "another version": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
            "two types": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
            b"Content-Type: application/json\r\n\r\n",
            "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "a NUL": b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
        }.items()
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_done(
    message: bytes,
) -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(message + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        said = await raw.rest()
    assert said.startswith(b"HTTP/1.1 400 "), said
    assert b"This is not a request in HTTP/1.1." in said
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"X: " + b"x" * 5_000], id="long"),
        pytest.param([b"X%d: y" % number for number in range(50)], id="many"),
    ],
)
async def test_a_head_that_is_too_large_is_refused_whole_or_not(lines: list[bytes]) -> None:
    limits = replace(PATIENT, head_max_bytes=1024, headers_max=20)
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(lines)
    async with small(limits) as door:
        for end in (b"\r\n\r\n", b"") if len(lines) == 1 else (b"\r\n\r\n",):
            async with connected(door.url) as raw:
                await raw.send(head + end)
                status, told = await raw.answer()
                assert (status, b"The request's head is too large." in told) == (431, True)


async def test_requests_that_come_together_are_answered_in_turn() -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nthree"
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"
        )
        answers = [await raw.answer() for _ in range(4)]
    assert [body for _, body in answers[:3]] == [b"one", b"two", b"three"]
    assert answers[3][0] == 400


# Callers that stop sending but still read.


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", [b"hello"], id="a request"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none", [b"one"], id="a body"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\ntwo\r\n0\r\n\r\n",
            [b"two"],
            id="chunks",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 30, [b"hello"] * 30, id="several together"
        ),
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost", [], id="half a head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\non", [], id="half a body"
        ),
    ],
)
async def test_who_ends_its_half_gets_the_answers_to_what_came_whole(
    sent: bytes, answered: list[bytes]
) -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(sent)
        raw.writer.write_eof()
        answers = [await raw.answer() for _ in answered]
        assert answers == [(200, body) for body in answered]
        assert await raw.rest() == b""


async def test_who_ends_its_half_while_it_is_answered_gets_the_answer() -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await door.held.wait()
        raw.writer.write_eof()
        assert await half_ended(door) == 1
        door.let_go.set()
        assert await raw.answer() == (200, b"let go")
        assert await raw.rest() == b""
    assert len(door.server.connections) == 0


async def half_ended(door: Small) -> int:
    """Returns how many connections their callers have ended, once one has."""
    async with patience("the end of a caller's half"):
        while True:
            found = sum(
                one.cycle is not None and CALLER_ENDED in one.cycle.scope["state"]
                for one in door.server.server_state.connections
                if isinstance(one, DoorProtocol)
            )
            if found:
                return found
            await asyncio.sleep(0)


async def test_who_has_gone_is_not_written_to_for_ever() -> None:
    async with small() as door, connected(door.url) as raw:
        await raw.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.writer.close()
        async with patience("the end of what is sent"):
            await door.gone.wait()


@pytest.fixture
async def fuzzed(door: Door) -> AsyncIterator[str]:
    """The URL of the complete API."""
    limits = replace(
        Limits(), head_seconds=0.05, idle_seconds=0.05, drain_seconds=0.05, body_window_seconds=0.05
    )
    admission = Admission(limits)
    async with running_server(
        DoorServer(create_app(replace(door, admission=admission)), admission)
    ) as url:
        yield url


METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"G T", b"", b"\xff"]
TARGETS = [
    *(b"/", b"/healthz", b"/imports", b"/docs", b"/webhooks/payments/acme", b"/downloads/x"),
    *(b"*", b"x:443", b"http://y/healthz", b"//", b"/%", b"/%00", b"/%ff", b"/?a=%", b"/\xff"),
    *(b"/../..", b"", b"/ /", b"/docs?a=1&a=2", b"/imports?dry_run=1&dry_run=0", b"/imports/%00"),
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""]
HEADERS = [
    *(b"Host: x", b"Host: y", b"Host:", b"Host: ../@:x", b"Connection: close"),
    *(b"Connection: keep-alive, upgrade", b"Upgrade: websocket", b"Upgrade: h2c"),
    *(b"HTTP2-Settings: x", b"Expect: 100-continue", b"Expect: x", b"Accept: \xff"),
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 99999999999999999999"),
    *(b"Content-Length: -1", b"Content-Length: 0x5", b"Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: \x0bchunked", b"X: \0", b": x", b"X"),
    *(b" folded", b"Authorization: Bearer x", b"Authorization: Bearer", b"Authorization: \xff"),
    *(b"Authorization: Basic x", b"X-Forwarded-For: ,,[::", b"Content-Type: application/json"),
    *(b"Content-Type: multipart/form-data; boundary=", b"Cookie: a=b", b"Range: bytes=0-"),
    *(b"Content-Type: text/csv", b"Content-Encoding: gzip", b"TE: trailers", b"Trailer: Host"),
    *(b"webhook-id: 1", b"webhook-timestamp: 1", b"webhook-signature: v1,x", b"Host : x"),
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n"]
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello",
    b"fffffffffffffffffff\r\n",
    b"-1\r\n",
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Requests that mostly contain an error, sometimes several, and are sometimes cut off."""
    whole = b""
    for _ in range(draw(st.integers(1, 3))):
        line = b" ".join(draw(st.sampled_from(part)) for part in (METHODS, TARGETS, VERSIONS))
        if draw(st.booleans()):
            line = b"GET /healthz HTTP/1.1"
        headers = draw(st.lists(st.sampled_from(HEADERS), max_size=6))
        if draw(st.booleans()):
            headers = [b"Host: x", *(each for each in headers if not each.startswith(b"Host"))]
        for each in (line, *headers, b""):
            whole += each + draw(st.sampled_from(ENDS))
        whole += draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(whole)))
        whole = whole[:place] + draw(st.binary(max_size=4)) + whole[place + 1 :]
    return whole[: draw(st.integers(1, len(whole)))] if draw(st.booleans()) else whole


@given(message=messages(), ends=st.booleans())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(message=b"\r\n", ends=True)
@example(message=b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", ends=True)
@example(
    message=b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", ends=True
)
async def test_whatever_is_sent_is_answered_or_closed_and_never_an_error_of_ours(
    fuzzed: str, message: bytes, ends: bool
) -> None:
    async with connected(fuzzed) as raw:
        await raw.send(message)
        if ends:
            with suppress(OSError):  # it has been closed
                raw.writer.write_eof()
        said = await raw.rest()
    for status, body in answers_in(said):
        assert status < 500, said
        if status >= 400 and body:
            assert told_in(body), said
    async with connected(fuzzed) as raw:
        assert await raw.get("/healthz") == 200
