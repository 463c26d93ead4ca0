"""The HTTP API streams uploads, and reports and cancels their imports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, text
from temporalio.client import Client

from activities.imports import find_import
from processes.web.admission import Admission
from processes.web.door import Door
from processes.web.limits import Limits
from saas.database.contacts import Import, ImportStatus
from saas.queues import Queue
from saas.services.object_storage import current_storage, object_path
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.event_source import EventSource
from tests.fixtures.raw_http import connected
from tests.fixtures.relay import running
from tests.fixtures.saas import saas_worker
from tests.fixtures.web import CONTACTS, Web, answering, problem_of
from workflows.imports import ImportContactsInput

CSV = {"Content-Type": "text/csv"}


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> dict[str, Any]:
    """Returns a form's body and content type."""
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=B"}}


def part(name: str, content: bytes = CONTACTS, file_name: str | None = "c.csv") -> bytes:
    file = "" if file_name is None else f'; filename="{file_name}"'
    return f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content


async def imports_of(web: Web, tenant: str) -> list[Import]:
    with web.acting_for(tenant):
        async with tenant_session() as session:
            return list(await session.scalars(select(Import)))


async def change(web: Web, import_id: str, **values: Any) -> None:
    """Changes an import of acme's like its job."""
    with web.acting_for("acme"):
        async with tenant_session() as session:
            found = await find_import(session, UUID(import_id), lock=True)
            for name, value in values.items():
                setattr(found, name, value)


async def started(client: httpx.AsyncClient) -> str:
    answer = await client.post("/imports", files={"file": ("my.csv", CONTACTS)})
    assert answer.status_code == 202, answer.text
    import_id: str = answer.json()["id"]
    return import_id


def stored_files(web: Web) -> list[str]:
    folder = web.folder / "storage"
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


async def events_of(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def test_a_form_and_a_bare_body_are_both_a_file(web: Web) -> None:
    async with web.client("acme") as client:
        as_form = await client.post("/imports?dry_run=true", files={"file": ("ä x.csv", CONTACTS)})
        bare = await client.post("/imports?file_name=b.csv", content=CONTACTS, headers=CSV)
        for answer in (as_form, bare):
            assert answer.status_code == 202
            assert answer.json()["status"] == "processing"
        shown = (await client.get(as_form.json()["links"]["self"])).json()
    assert (shown["tenant_id"], shown["status"], shown["rows"]) == ("acme", "processing", 0)
    by_name = {each.file_name: each for each in await imports_of(web, "acme")}
    assert set(by_name) == {"ä x.csv", "b.csv"}
    assert [by_name[name].dry_run for name in sorted(by_name)] == [False, True]
    assert {each.size for each in by_name.values()} == {len(CONTACTS)}
    assert all(each.started_by.startswith("key tk_") for each in by_name.values())
    with web.acting_for("acme"):
        path = by_name["b.csv"].path
        assert b"".join([piece async for piece in current_storage().open(path)]) == CONTACTS
        async with tenant_session() as session:
            asked = await session.execute(text("select job, key from tenancy.outbox_messages"))
    assert sorted(asked) == sorted(("contacts.import", str(each.id)) for each in by_name.values())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(form(part("file"), part("tenant_id", b"globex", None)), 422, id="after"),
        pytest.param(form(part("tenant_id", b"globex", None), part("file")), 422, id="before"),
        pytest.param(form(part("file"), part("file")), 422, id="two files"),
        pytest.param(form(part("other")), 422, id="another name"),
        pytest.param(form(part("file", file_name=None)), 422, id="no file"),
        pytest.param(form(), 422, id="no part"),
        pytest.param(form(part("file"), end=b""), 422, id="cut off"),
        pytest.param(form(b"no header"), 422, id="no form"),
        pytest.param({"content": b"", "headers": form()["headers"]}, 422, id="empty"),
        pytest.param(
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            422,
            id="no boundary",
        ),
        pytest.param({"json": {"tenant_id": "globex"}}, 415, id="JSON"),
        pytest.param({"content": CONTACTS}, 415, id="no type"),
    ],
)
async def test_what_is_no_single_file_is_refused_and_nothing_of_it_kept(
    web: Web, sent: dict[str, Any], status: int
) -> None:
    async with web.client("acme") as client:
        answer = await client.post("/imports", **sent)
    assert answer.status_code == status, answer.text
    problem_of(answer)
    assert stored_files(web) == []
    assert await imports_of(web, "acme") == []


async def test_a_file_over_the_limit_is_refused_when_it_is_announced_and_when_it_comes(
    door: Door, web_tenants: dict[str, str], web: Web
) -> None:
    small = replace(door, upload_max_bytes=100_000)

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 10_000

    async with (
        answering(small) as url,
        Web(url, small, web_tenants, web.folder).client("acme") as client,
    ):
        announced = await client.post("/imports", content=b"x" * 100_001, headers=CSV)
        unannounced = await client.post("/imports", content=pieces(11), headers=CSV)
        in_form = await client.post("/imports", files={"file": b"x" * 100_001})
        just_fits = await client.post("/imports", content=pieces(10), headers=CSV)
    for answer in (announced, unannounced, in_form):
        assert (answer.status_code, problem_of(answer)) == (413, "BodyTooLarge")
    told = "The file is larger than 100,000 bytes."
    assert in_form.json()["error"]["message"] == told
    assert just_fits.status_code == 202
    assert len(stored_files(web)) == 1


async def test_who_goes_away_in_the_midst_leaves_nothing(web: Web) -> None:
    parts = urlsplit(web.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST /imports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {web.keys['acme']}\r\n"
        "Content-Type: text/csv\r\nContent-Length: 1000\r\n\r\nemail\n"
    )
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with web.client("acme") as client:
        await started(client)  # takes longer than noticing that the caller has gone
    assert len(stored_files(web)) == len(await imports_of(web, "acme")) == 1


async def test_another_tenants_import_is_as_unknown_as_one_that_never_was(web: Web) -> None:
    async with web.client("acme") as acme, web.client("globex") as globex:
        import_id = await started(acme)
        for method, rest in (
            ("GET", ""),
            ("GET", "/events"),
            ("GET", "/errors"),
            ("POST", "/cancel"),
        ):
            answers = [
                await globex.request(method, f"/imports/{each}{rest}")
                for each in (import_id, uuid4(), "no-uuid", "..%2f..")
            ]
            assert {answer.status_code for answer in answers} == {404}, rest
            assert len({answer.text for answer in answers[:3]}) == 1
    [untouched] = await imports_of(web, "acme")
    assert untouched.status == ImportStatus.PROCESSING


async def test_its_events_tell_each_change_and_end_with_it(web: Web) -> None:
    async with web.client("acme") as client:
        import_id = await started(client)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = events_of(answer)
            first = await anext(events)
            await change(web, import_id, imported=1, position=30)
            second = await anext(events)
            await change(web, import_id, updated=1, status="completed", position=len(CONTACTS))
            rest = [event async for event in events]
    assert (first["rows"], first["progress"]) == (0, 0)
    assert (second["rows"], second["progress"]) == (1, round(30 / len(CONTACTS), 4))
    assert [(event["status"], event["rows"], event["progress"]) for event in rest] == [
        ("completed", 2, 1)
    ]


async def test_a_browser_that_watches_is_told_each_state_and_then_to_stop(web: Web) -> None:
    async with web.client("acme") as client:
        import_id = await started(client)
        source = EventSource(client, f"/imports/{import_id}/events")
        watching = asyncio.create_task(source.closed())
        while not source.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await change(web, import_id, imported=2, status="completed")
        await watching
        assert [json.loads(data)["status"] for _, data in source.events] == [
            "processing",
            "completed",
        ]
        assert source.statuses == [200, 204]

        late = EventSource(client, f"/imports/{import_id}/events")
        await late.closed()
        assert [json.loads(data)["status"] for _, data in late.events] == ["completed"]
        assert late.statuses == [200, 204]


async def test_a_browser_that_missed_the_end_is_told_it(web: Web) -> None:
    async with watched(web, longest=0.05) as short, short.client("acme") as client:
        import_id = await started(client)
        source = EventSource(client, f"/imports/{import_id}/events", reconnection_seconds=0.2)
        watching = asyncio.create_task(source.closed())
        while not source.events or web.door.admission.streams.of("acme"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await change(web, import_id, status="cancelled")
        await watching
    assert json.loads(source.events[-1][1])["status"] == "cancelled"
    assert source.statuses[-1] == 204


@asynccontextmanager
async def watched(web: Web, **seconds: float) -> AsyncIterator[Web]:
    """The same API, with other timings for watching imports."""
    door = replace(web.door, watch=replace(web.door.watch, **seconds))
    async with answering(door) as url:
        yield replace(web, url=url, door=door)


async def test_a_quiet_stream_says_that_it_lives(web: Web) -> None:
    async with watched(web, heartbeat=0.05) as lively, lively.client("acme") as client:
        import_id = await started(client)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    break


async def test_a_stream_ends_with_the_process_and_with_who_watches(web: Web) -> None:
    async with web.client("acme") as client:
        import_id = await started(client)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            events = events_of(answer)
            await anext(events)
            assert web.door.admission.streams.of("acme") == 1
        while web.door.admission.streams.of("acme"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            events = events_of(answer)
            await anext(events)
            web.door.stopping.set()
            assert [event async for event in events] == []


async def test_a_stream_ends_with_the_half_of_who_watches(web: Web) -> None:
    """A caller's leaving cannot be seen here; so it gets what there is, and holds no slot."""
    async with web.client("acme") as client, connected(web.url) as raw:
        path = f"/imports/{await started(client)}/events"
        key = f"Authorization: Bearer {web.keys['acme']}"
        await raw.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n".encode())
        raw.writer.write_eof()
        said = await raw.rest()
    assert said.count(b"event: progress") == 1
    assert said.endswith(b"0\r\n\r\n")
    assert web.door.admission.streams.of("acme") == 0


async def test_streams_are_counted_by_tenant(door: Door, web: Web) -> None:
    one = replace(door, admission=Admission(Limits(streams_per_tenant=1)))
    async with (
        answering(one) as url,
        replace(web, url=url).client("acme") as client,
        replace(web, url=url).client("globex") as other,
    ):
        address = f"/imports/{await started(client)}/events"
        theirs = f"/imports/{await started(other)}/events"
        async with client.stream("GET", address) as answer:
            events = events_of(answer)
            await anext(events)
            assert (await client.get(address)).status_code == 429
            async with other.stream("GET", theirs) as admitted:
                assert admitted.status_code == 200


async def test_the_error_file_is_kept_by_the_browser_and_not_shown(web: Web) -> None:
    async with web.client("acme") as client:
        import_id = await started(client)
        before = await client.get(f"/imports/{import_id}/errors")
        with web.acting_for("acme"):
            path = object_path("imports", "errors.csv")
            await current_storage().put(path, b"row,reason\n1,bad\n")
        await change(web, import_id, error_file=path, status="completed", rejected=1)
        answer = await client.get(f"/imports/{import_id}/errors")
    assert (before.status_code, problem_of(before)) == (404, "ErrorFileUnknown")
    assert answer.text == "row,reason\n1,bad\n"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_import_that_waits_is_cancelled_and_stays_so(web_and_temporal: Web) -> None:
    web = web_and_temporal
    async with web.client("acme") as client:
        import_id = await started(client)
        cancelled = await client.post(f"/imports/{import_id}/cancel")
        again = await client.post(f"/imports/{import_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert (again.status_code, problem_of(again)) == (409, "ImportEnded")
    assert again.json()["error"]["message"] == "This import is already cancelled."


async def test_an_import_that_runs_is_asked_to_end(web_and_temporal: Web, saas: Client) -> None:
    async with web_and_temporal.client("acme") as client:
        import_id = await started(client)
        handle = await saas.start_workflow(
            "contacts.import",
            ImportContactsInput(tenant_id="acme", import_id=UUID(import_id)),
            id=f"acme/contacts.import/{import_id}",
            task_queue=Queue.DEFAULT,
        )
        answer = await client.post(f"/imports/{import_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    history = await handle.fetch_history()
    assert any(
        event.HasField("workflow_execution_cancel_requested_event_attributes")
        for event in history.events
    )
    await handle.terminate()


async def test_a_stream_does_not_outlast_its_key_for_long(web: Web) -> None:
    async with watched(web, longest=0.05) as short, short.client("acme") as client:
        import_id = await started(client)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            events = [event async for event in events_of(answer)]
    assert [event["status"] for event in events] == ["processing"]


async def test_a_file_that_was_sent_is_imported(
    web_and_temporal: Web, saas: Client, make_relay: Any
) -> None:
    async with (
        saas_worker(saas, task_queue=Queue.DEFAULT),
        running(make_relay()),
        web_and_temporal.client("acme") as client,
    ):
        import_id = await started(client)
        async with client.stream("GET", f"/imports/{import_id}/events") as answer:
            events = [event async for event in events_of(answer)]
    assert (events[-1]["status"], events[-1]["imported"]) == ("completed", 2)


CP1250 = "email,name\r\npl1@acme.test,Łukasz Żółć\r\npl2@acme.test,Muńoz\r\n".encode("cp1250")


@pytest.mark.parametrize(
    ("address", "sent", "encoding"),
    [
        pytest.param(
            "/imports",
            {"content": CP1250, "headers": {"Content-Type": 'text/csv; charset="Windows-1250"'}},
            "windows-1250",
            id="charset of a body",
        ),
        pytest.param(
            "/imports?encoding=cp852",
            {"content": CP1250, "headers": {"Content-Type": "text/csv; charset=windows-1250"}},
            "cp852",
            id="address before charset",
        ),
        pytest.param(
            "/imports",
            {"files": {"file": ("c.csv", CP1250, "text/csv; charset=iso-8859-2")}},
            "iso-8859-2",
            id="charset of a part",
        ),
        pytest.param(
            "/imports",
            {
                "files": {"file": ("c.csv", CP1250, "text/csv; charset=utf-8")},
                "data": {"encoding": "cp1250"},
            },
            "windows-1250",
            id="field before charset",
        ),
        pytest.param(
            "/imports",
            form(part("file", CP1250), part("encoding", b" cp1250 ", None)),
            "windows-1250",
            id="field behind the file",
        ),
        pytest.param(
            "/imports",
            form(part("encoding", b"", None), part("file", b"\xef\xbb\xbfemail\n")),
            "utf-8",
            id="nothing in the field",
        ),
        pytest.param(
            "/imports",
            {"content": CONTACTS, "headers": {"Content-Type": "application/vnd.ms-excel"}},
            "utf-8",
            id="as Windows calls CSV",
        ),
    ],
)
async def test_what_the_sender_names_is_used(
    web: Web, address: str, sent: dict[str, Any], encoding: str
) -> None:
    async with web.client("acme") as client:
        answer = await client.post(address, **sent)
        assert answer.status_code == 202, answer.text
        shown = (await client.get(answer.json()["links"]["self"])).json()
    assert (shown["encoding"], shown["candidates"]) == (encoding, [])
    assert shown["encoding_by"] in ("named", "mark", "bytes")


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("/imports?encoding=klingon", {"content": CONTACTS, "headers": CSV}),
        ("/imports?encoding=zip", {"content": CONTACTS, "headers": CSV}),
        ("/imports", {"content": CONTACTS, "headers": {"Content-Type": "text/csv; charset=hex"}}),
        ("/imports", form(part("encoding", b"\x1b[2J", None), part("file"))),
        ("/imports", form(part("file"), part("encoding", b"rot13", None))),
    ],
)
async def test_an_encoding_that_there_is_not_is_refused_and_nothing_kept(
    web: Web, address: str, sent: dict[str, Any]
) -> None:
    async with web.client("acme") as client:
        answer = await client.post(address, **sent)
    assert (answer.status_code, problem_of(answer)) == (422, "EncodingUnknown")
    message = answer.json()["error"]["message"]
    assert "Did you mean" in message
    assert message.isprintable()
    assert stored_files(web) == []
    assert await imports_of(web, "acme") == []


@pytest.mark.parametrize(
    "sent",
    [
        form(part("encoding", b"utf-8", None), part("encoding", b"utf-8", None), part("file")),
        form(part("encoding", b"x" * 1_000, None), part("file")),
        form(part("encoding", b"utf-8", None)),
        form(part("file"), part("encoding", b"utf-8", None), part("file")),
    ],
)
async def test_other_forms_are_refused(web: Web, sent: dict[str, Any]) -> None:
    async with web.client("acme") as client:
        answer = await client.post("/imports", **sent)
    assert (answer.status_code, problem_of(answer)) == (422, "InvalidRequest")
    assert stored_files(web) == []


async def test_an_encoding_that_is_not_sure_is_shown_with_its_candidates(web: Web) -> None:
    content = "email,name\na@acme.test,Muñoz\nb@acme.test,Zoë\n".encode("windows-1252")
    async with web.client("acme") as client:
        answer = await client.post("/imports", content=content, headers=CSV)
        shown = (await client.get(answer.json()["links"]["self"])).json()
    assert (shown["encoding"], shown["encoding_by"]) == (None, "unsure")
    samples = {each["encoding"]: each["sample"] for each in shown["candidates"]}
    assert "a@acme.test,Muñoz" in samples["windows-1252"]
