"""Hostile requests with a valid key: odd addresses, JSON, forms and links.

The heads are in test_web_connections.py; here they are sound, and what they bring is not.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from processes.web.app import create_app
from processes.web.door import OPEN_JOBS, make_door
from saas.services.links import make_link
from saas.settings import Settings
from temporal_tenancy.postgres.database import Database
from tests.fixtures.raw_http import answers_in, connected
from tests.fixtures.relay import messages_of
from tests.fixtures.web import CONTACT, CONTACTS, Web, problem_of, told_in

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
FINE = b'{"input": {"kind": "contact", "ref": "%s"}, "key": "k"}' % str(CONTACT).encode()

ODD_TEXTS = [
    *(
        "",
        " ",
        "x",
        "a" * 300,
        "..",
        "../../globex/x",
        "a/b",
        "\x00",
        "\r\nX: y",
        "\x1b[2J",
        "\u202e",
    ),
    *(
        "<script>alert(1)</script>",
        '"',
        "\\",
        "%",
        "%00",
        "é",
        "💩",
        "2013-04",
        "9999-12",
        "0000-01",
    ),
    *("globex", "acme", "null", "true", "1e999", "=1+2", "utf-16", "rot13", "idna"),
]
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)

ATOMS = [
    *("null", "true", "0", "-0", "1e999", "-1e999", "NaN", "Infinity", "9" * 400, "9" * 5_000),
    *('"x"', r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', '"\x00"', '"\x7f"', r'"\u202e"', '""'),
    *("[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300, "[", "}", "'x'", "/**/", "\ufeff"),
]
FIELDS = ["input", "key", "at", "tenant_id", "kind", "ref", "period", "x", "__proto__", r"\u0000"]
FIELDS += ["dataset", "format", "parameters", "first", "last", "url", "credential", "report_id"]
# Objects that some route takes, so that hostile addresses and values reach further than the body.
SOUND = [
    {"dataset": "contacts"},
    {"dataset": "usage_events", "format": "parquet"},
    {"kind": "usage.by_route", "parameters": {"first": "2013-04-01", "last": "2013-04-30"}},
    {"kind": "invoices.by_month", "parameters": {"first": "2013-04", "last": "2013-04"}},
    {"url": "https://x.example/records", "credential": "c"},
    {"key": "2013-04"},
    {"input": {"kind": "document", "ref": "report.daily/2013-04-01"}},
    {"input": {"export_id": str(CONTACT)}},
    {"input": {"report_id": "globex/1"}},
    {"input": {"integration_id": str(CONTACT)}},
]


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects, some with a duplicate field."""
    pair = st.tuples(st.sampled_from(FIELDS), values).map(lambda found: f'"{found[0]}": {found[1]}')
    return st.lists(pair, max_size=4).map(lambda pairs: f"{{{', '.join(pairs)}}}")


JSONS = st.recursive(
    st.sampled_from(ATOMS) | TEXTS.map(json.dumps),
    lambda inner: objects(inner) | st.lists(inner, max_size=3).map(lambda a: f"[{', '.join(a)}]"),
    max_leaves=6,
)
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"]

DISPOSITIONS = [
    *(b'name="file"; filename="a.csv"', b'name="file"; filename=""', b'name="file"', b"name=file"),
    *(b'name="encoding"', b'name="encoding"; filename="x"', b'name="tenant_id"', b"", b'name="'),
    *(b'name="file"; filename="\xff\x00"', b'name="file"; name="x"; filename="a"'),
    *(b"name=\"file\"; filename*=UTF-8''%00", b'name="file"; filename="' + b"n" * 3_000 + b'"'),
]
TYPES = [
    b"",
    b"\r\nContent-Type: text/csv; charset=\xff",
    b"\r\nX: " + b"x" * 9_000,
    b"\r\nX",
    b"\n",
]
CONTENTS = [CONTACTS, b"", b"utf-8", b"\xff\x00", b"\r\n--B\r\n", b"x" * 200]
BOUNDARIES = [
    b"boundary=B",
    b"boundary=B",
    b"boundary=",
    b"",
    b'boundary="',
    b"boundary=C; boundary=B",
]


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A form's content type and body, sometimes cut off."""
    body = b""
    for _ in range(draw(st.integers(0, 3))):
        body += b"--B\r\nContent-Disposition: form-data; " + draw(st.sampled_from(DISPOSITIONS))
        body += (
            draw(st.sampled_from(TYPES)) + b"\r\n\r\n" + draw(st.sampled_from(CONTENTS)) + b"\r\n"
        )
    body += draw(st.sampled_from([b"--B--\r\n", b"--B--\r\n", b"", b"--B--junk", b"--B\r\n\r\n"]))
    return b"multipart/form-data; " + draw(st.sampled_from(BOUNDARIES)), body


def address(text: str) -> bytes:
    """Returns text as a part of a path; escapes only what ends a line or the part."""
    return b"".join(
        bytes([byte]) if 0x21 <= byte <= 0x7E else b"%%%02x" % byte
        for byte in text.encode(errors="surrogatepass")
    )


def routes() -> list[tuple[str, str]]:
    """Returns the method and the path of every route."""
    app = create_app(make_door(Settings.model_construct(), Database()))
    return sorted(
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    )


ROUTES = routes()


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """Valid HTTP requests to any route, except for their last headers."""
    method, template = draw(
        st.sampled_from(ROUTES)
        | st.sampled_from(sorted(OPEN_JOBS)).map(lambda job: ("POST", f"/jobs/{job}"))
    )
    path = b""
    for part in re.split(r"(\{[a-z_:]+\})", template):
        path += address(draw(TEXTS)) if part.startswith("{") else part.encode()
    names = st.sampled_from([b"dry_run", b"file_name", b"encoding", b"tenant_id", b"", b"%ff"])
    names |= st.sampled_from([b"after", b"limit", b"q", b"kind"])
    query = st.tuples(names, TEXTS.map(address) | st.just(b"%ff")).map(b"=".join)
    path += (
        b"?" + b"&".join(draw(st.lists(query, min_size=1, max_size=3)))
        if draw(st.booleans())
        else b""
    )
    kind, body = draw(
        forms()
        | st.tuples(st.just(b"text/csv"), st.binary(max_size=40) | st.just(CONTACTS))
        | st.tuples(
            st.just(b"application/json"),
            st.tuples(
                objects(JSONS) | JSONS | st.sampled_from(SOUND).map(json.dumps),
                st.sampled_from(ENCODINGS),
            ).map(lambda found: found[0].encode(found[1], errors="replace")),
        )
    )
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: x", b"Authorization: Bearer KEY"]
    lines += [b"Content-Type: " + kind, b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join([*lines, b"", body])


@given(call=calls())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(call=b"POST /jobs/search.index HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
async def test_whatever_a_tenant_sends_is_done_or_told_why_not(web: Web, call: bytes) -> None:
    async with connected(web.url) as raw:
        await raw.send(call.replace(b"KEY", web.keys["acme"].encode(), 1))
        [(status, body)] = answers_in(await raw.rest())
    assert status in (200, 201, 202, 204) or (400 <= status < 500 and told_in(body)), (status, body)
    assert b"globex" not in call or await messages_of(web.door.database, "globex") == []


# Ambiguous input.


@pytest.mark.parametrize(
    ("path", "sent", "status", "problem"),
    [
        ("/imports?dry_run=true&dry_run=false", (CSV, CONTACTS), 422, "InvalidRequest"),
        ("/imports?file_name=a&file_name=a", (CSV, CONTACTS), 422, "InvalidRequest"),
        ("/imports", ({**CSV, "Content-Encoding": "gzip"}, CONTACTS), 415, "MediaTypeRefused"),
        ("/jobs/search.index", ({**JSON, "Content-Encoding": "br"}, FINE), 415, "MediaTypeRefused"),
        ("/webhooks/payments/acme", ({"Content-Encoding": "x"}, b""), 415, "MediaTypeRefused"),
        ("/jobs/search.index", (JSON, FINE[:-1] + b', "key": "l"}'), 422, "InvalidRequest"),
        (
            "/jobs/search.index",
            (JSON, b'{"input": {"kind": "contact", "ref": "r", "ref": "s"}}'),
            422,
            "InvalidRequest",
        ),
    ],
)
async def test_what_says_two_things_is_refused_and_nothing_done(
    web: Web, path: str, sent: tuple[dict[str, str], bytes], status: int, problem: str
) -> None:
    headers, content = sent
    async with web.client("acme") as client:
        answer = await client.post(path, headers=headers, content=content)
    assert (answer.status_code, problem_of(answer)) == (status, problem)
    assert await messages_of(web.door.database, "acme") == []


async def test_a_body_that_is_as_it_is_may_say_so(web: Web) -> None:
    async with web.client("acme") as client:
        headers = {**JSON, "Content-Encoding": "identity"}
        answer = await client.post("/jobs/search.index", headers=headers, content=FINE)
    assert answer.status_code == 202


@pytest.mark.parametrize("key", ["9999-12", "0000-01", "2013-13"])
async def test_a_period_that_is_none_is_told_why(web: Web, key: str) -> None:
    sent: list[dict[str, Any]] = [{"key": key}, {"input": {"period": key}}]
    async with web.client("acme") as client:
        answers = [await client.post("/jobs/analytics.aggregate", json=each) for each in sent]
    for answer in answers:
        assert (answer.status_code, problem_of(answer)) == (422, "InvalidPayload")
        said = answer.json()["error"]["message"]
        assert "the calendar has no such month" in said or "a period must be between" in said


async def test_health_is_told_to_who_asks_for_the_status_only(web: Web) -> None:
    async with web.client() as client:
        answers = [await client.head(path) for path in ("/healthz", "/readyz")]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"")] * 2


async def test_a_changed_link_opens_no_other_file(web: Web) -> None:
    with web.acting_for("acme"):
        link = make_link("acme/imports/x.csv", timedelta(hours=1)).rsplit("/", 1)[-1]
    ways = [f"{link}%00", f"{link}%0a", f"{link}/x", f"{link}%2fx", f"../downloads/{link}"]
    ways += [link.replace(".", "%252e"), link.upper(), f"{link}{link}", link.partition(".")[2]]
    async with connected(web.url) as raw:
        assert [await raw.get(f"/downloads/{way}") for way in ways] == [404] * len(ways)
