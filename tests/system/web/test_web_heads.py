"""HEAD is answered like GET, without the body, on every route; OPTIONS with the methods."""

from __future__ import annotations

import asyncio
import re

from fastapi.routing import iter_route_contexts

from processes.web.app import create_app
from saas.database.contacts import ImportStatus
from tests.fixtures.log_lines import LogLines
from tests.fixtures.web import CONTACT, CONTACTS, Web
from tests.system.web.test_web_imports import change

OWN = {"date", "content-length", "transfer-encoding"}  # a stream's length is not known


def shown_by(web: Web) -> list[str]:
    """Returns the path of each route with GET."""
    routes = iter_route_contexts(create_app(web.door).routes)
    return [str(route.path) for route in routes if "GET" in (route.methods or ())]


async def test_head_is_answered_like_get_on_every_route(web: Web, log_lines: LogLines) -> None:
    values = {"name": "style.css", "key": "2013", "contact_id": str(CONTACT)}
    paths = {
        re.sub(r"\{(\w+)(:path)?\}", lambda part: values.get(part[1], "unknown"), path)
        for path in shown_by(web)
    }
    assert len(paths) > 25
    statuses = set()
    async with web.client("acme") as client:
        for path in [*paths, "/search?q=acme", "/contacts?limit=0", "/no-such-route"]:
            shown, asked = await client.get(path), await client.head(path)
            assert (asked.status_code, asked.content) == (shown.status_code, b""), path
            for name in {*shown.headers, *asked.headers} - OWN:
                assert asked.headers.get(name) == shown.headers.get(name), (path, name)
            if "content-length" in shown.headers:
                assert asked.headers["content-length"] == shown.headers["content-length"], path
            statuses.add(shown.status_code)
    assert statuses >= {200, 404, 422}
    line = next(line for line in log_lines.all("web.answered") if line["method"] == "HEAD")
    assert line["route"] in shown_by(web)


async def test_head_follows_no_stream_and_holds_no_slot(web: Web) -> None:
    async with web.client("acme") as client:
        started = await client.post("/imports", files={"file": CONTACTS})
        events = started.json()["links"]["events"]
        for _ in range(2):  # on one connection
            async with asyncio.timeout(10):
                answer = await client.head(events)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")
            while web.door.admission.streams.of("acme"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await change(web, started.json()["id"], status=ImportStatus.CANCELLED)
        async with client.stream("GET", events) as stream:
            [told] = [line async for line in stream.aiter_lines() if line.startswith("id: ")]
        headers = {"Last-Event-ID": told.removeprefix("id: ")}
        assert (await client.head(events, headers=headers)).status_code == 204


async def test_options_and_a_refused_method_name_the_methods_of_every_path(web: Web) -> None:
    methods: dict[str, set[str]] = {}
    for route in iter_route_contexts(create_app(web.door).routes):
        methods.setdefault(str(route.path), {"OPTIONS"}).update(route.methods or ())
    async with web.client() as client:  # without a key, as nothing is shown
        for path, expected in methods.items():
            where = re.sub(r"\{[\w:]+\}", "x", path)
            for method, status in (("OPTIONS", 204), ("PATCH", 405), ("NO-SUCH", 405)):
                answer = await client.request(method, where)
                assert answer.status_code == status, (method, where)
                named = set(answer.headers["allow"].split(", "))
                assert named == expected | ({"HEAD"} if "GET" in expected else set()), where
                assert not any(name.startswith("access-control") for name in answer.headers)
