"""What the door says of each thing that is wrong with a request, word for word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from tests.fixtures.web import CONTACT, CONTACTS, Web

NOBODYS: Final = "01993c5e-8f2b-7c31-9d4e-000000000000"
JSON: Final = {"Content-Type": "application/json"}
ITEM: Final = {"kind": "contact", "ref": str(CONTACT)}


def form(*parts: str, ends: bool = True, boundary: str = "; boundary=B") -> dict[str, Any]:
    """A form with these parts, as they are."""
    body = "".join(f"--B\r\n{part}\r\n" for part in parts) + ("--B--\r\n" if ends else "")
    kind = {"Content-Type": f"multipart/form-data{boundary}"}
    return {"content": body.encode(), "headers": kind}


def part(name: str, content: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n{content}'


FILE: Final = part("file", CONTACTS.decode())

# A request, what it sends, and the status and the sentence that it gets.
TOLD: Final[list[tuple[str, Mapping[str, Any], int, str]]] = [
    (f"GET /imports/{NOBODYS}", {}, 404, "This import does not exist."),
    (
        f"GET /exports/{NOBODYS}",
        {},
        404,
        "This export does not exist, or has expired. Request a new one.",
    ),
    (f"GET /reports/{NOBODYS}", {}, 404, "This report does not exist. Request a new one."),
    ("GET /integrations/x", {}, 404, "This integration does not exist. Set it up first."),
    ("GET /documents/x/y", {}, 404, "This document does not exist, or has expired."),
    (f"GET /contacts/{NOBODYS}", {}, 404, "This contact does not exist."),
    ("GET /pages/x", {}, 404, 'This page does not exist. "/" and "/docs" do.'),
    ("GET /x", {}, 404, "Not found. GET /docs lists the routes."),
    ("PATCH /me", {}, 405, "Method not allowed. GET /docs lists the routes."),
    (
        "POST /jobs/search.index",
        {"json": {"input": {**ITEM, "ref": NOBODYS}}},
        404,
        "This contact or document does not exist, and is not in the search index.",
    ),
    (
        "POST /jobs/x.y",
        {"json": {}},
        404,
        "This job cannot be requested here. The available ones are: analytics.aggregate, ",
    ),
    ("POST /jobs/contacts.import", {"json": {}}, 404, "contacts.import is requested with POST /im"),
    (
        "GET /me?tenant_id=globex",
        {},
        422,
        "The URL has an unknown parameter. Remove it. The tenant is always the key's.",
    ),
    (
        "GET /imports?x=1",
        {},
        422,
        "The URL has an unknown parameter. The known ones are: after, limit. The tenant is always "
        "the key's.",
    ),
    ("GET /imports?limit=1&limit=2", {}, 422, "The URL has a parameter twice. Send it once."),
    (
        "GET /documents?kind=%00",
        {},
        422,
        "The parameter kind has a NUL. No document has such a kind.",
    ),
    (
        "POST /exports",
        {"content": b"x" * 300_000, "headers": JSON},
        413,
        "The request's body is larger than 262,144 bytes.",
    ),
    (
        "POST /exports",
        {"content": b'{"dataset": "\xff"}', "headers": JSON},
        422,
        "The request's body is not UTF-8.",
    ),
    (
        "POST /exports",
        {"content": b'{"dataset": "contacts", "dataset": "contacts"}', "headers": JSON},
        422,
        "The request's body has a field twice. Send it once.",
    ),
    (
        "POST /exports",
        {
            "json": {"dataset": "contacts"},
            "headers": [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
        },
        422,
        "The request has two headers Idempotency-Key. Send one.",
    ),
    ("POST /imports", form(FILE, boundary=""), 422, "The form has no boundary."),
    ("POST /imports", form(FILE, ends=False), 422, "The form is incomplete. Send it again."),
    (
        "POST /imports",
        {**form(FILE), "content": b"no form"},
        422,
        "The form is malformed.",
    ),
    (
        "POST /imports",
        form(part("encoding", "x" * 1_000), FILE),
        422,
        "The field 'encoding' must be the name of an encoding.",
    ),
]


@pytest.mark.parametrize(
    ("asked", "sent", "status", "sentence"),
    [pytest.param(*told, id=f"{told[0][:40]} {told[3][:30]}") for told in TOLD],
)
async def test_what_is_wrong_with_a_request_is_told(
    web: Web, asked: str, sent: Mapping[str, Any], status: int, sentence: str
) -> None:
    method, path = asked.split(" ")
    async with web.client("acme") as client:
        answer = await client.request(method, path, **sent)
    told = answer.json()["error"]["message"]
    assert (answer.status_code, told[: len(sentence)]) == (status, sentence), told
    assert sentence[-1] != "." or told == sentence


async def test_a_tenant_that_leaves_is_told_that_nothing_more_can_be_started(
    web: Web, tenants: Tenants
) -> None:
    await tenants.set_status("acme", TenantStatus.OFFBOARDING)
    async with web.client("acme") as client:
        answer = await client.post("/exports", json={"dataset": "contacts"})
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == (
        "This account is being closed. Nothing can be started any more."
    )
