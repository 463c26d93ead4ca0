"""The HTTP API: which callers are accepted, and as which tenant."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from dev.devstack.redis import RedisServer
from processes.web.admission import Admission
from processes.web.app import create_app
from processes.web.callers import authenticated
from processes.web.door import Door
from processes.web.limits import Limits
from processes.web.rates import Rates
from processes.web.tokens import Tokens
from temporal_tenancy.control_plane._api_keys import ApiKeys
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.scope import current_scope
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.shared_state import SharedState
from tests.fixtures.log_lines import LogLines
from tests.fixtures.redis import PATIENT
from tests.fixtures.web import CONTACT, CONTACTS, Web, answering, limit_rate, problem_of

OPEN = {
    "/",
    "/docs",
    "/docs/{name}",
    "/pages/{name}",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/downloads/{token}",
    "/webhooks/payments",
    "/webhooks/payments/{tenant}",
}
"""The routes that need no key; what is signed is a key of its own."""


def routes(door: Door) -> Iterator[tuple[str, str, bool]]:
    """Returns every method and path of the application, and whether it needs a key."""
    for route in iter_route_contexts(create_app(door).routes):
        dependant = getattr(route, "dependant", None)
        needed = [] if dependant is None else dependant.dependencies
        keyed = any(each.call is authenticated for each in needed)
        for method in (route.methods or set()) - {"HEAD"}:
            assert route.path is not None
            yield method, route.path, keyed


def test_every_route_needs_a_key_but_those_that_are_named(door: Door) -> None:
    assert {path for _, path, keyed in routes(door) if not keyed} == OPEN


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Bearer tk_nobody"},
        {"Authorization": f"Bearer tk_{'A' * 43}"},
        {"Authorization": "Basic YWNtZTphY21l"},
        {"Authorization": "Bearer a.b.c"},
        {"X-Tenant-Id": "acme"},
    ],
)
async def test_every_such_route_refuses_who_has_no_valid_key(
    web: Web, headers: dict[str, str]
) -> None:
    patient = replace(web.door, admission=Admission(Limits(key_failures_per_minute=1_000)))
    async with (
        answering(patient) as url,
        replace(web, url=url).client(headers=headers) as client,
    ):
        for method, path, keyed in routes(web.door):
            if not keyed:
                continue
            address = re.sub(r"\{[a-z_:]+\}", str(uuid4()), path)
            answer = await client.request(method, f"{address}?tenant_id=acme")
            assert (answer.status_code, problem_of(answer)) == (401, "Unauthenticated"), path
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_caller_without_a_key_is_refused_before_the_body_is_read(web: Web) -> None:
    parts = urlsplit(web.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"POST /imports HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nemail\n")
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_two_keys_at_once_are_none(web: Web) -> None:
    headers = [("Authorization", f"Bearer {key}") for key in web.keys.values()]
    async with httpx.AsyncClient(base_url=web.url) as client:
        answer = await client.get("/jobs/search.index/x", headers=headers)
    assert answer.status_code == 401


async def test_a_revoked_key_is_refused_at_once(web: Web) -> None:
    keys = ApiKeys(web.door.database)
    made, key = await keys.create("acme", "another")
    async with web.client(headers={"Authorization": f"Bearer {key}"}) as client:
        before = await client.get(f"/imports/{uuid4()}")
        await keys.revoke("acme", made.id)
        after = await client.get(f"/imports/{uuid4()}")
    assert (before.status_code, after.status_code) == (404, 401)


async def test_who_is_suspended_or_leaving_gets_nothing_new_done_and_sees_what_was(
    web: Web, tenants: Tenants
) -> None:
    async with web.client("acme") as client:
        started = (await client.post("/imports", files={"file": CONTACTS})).json()
        for status, problem in (
            (TenantStatus.SUSPENDED, "TenantSuspended"),
            (TenantStatus.OFFBOARDING, "TenantOffboarding"),
        ):
            await tenants.set_status("acme", status)
            upload = await client.post("/imports", files={"file": CONTACTS})
            job = await client.post("/jobs/search.index", json={"input": {}})
            for answer in (upload, job):
                assert (answer.status_code, problem_of(answer)) == (403, problem)
            assert (await client.get(started["links"]["self"])).status_code == 200


async def test_the_key_of_a_tenant_that_is_gone_is_none(web: Web, tenants: Tenants) -> None:
    await tenants.set_status("acme", TenantStatus.DELETED)
    async with web.client("acme") as client:
        assert (await client.get(f"/imports/{uuid4()}")).status_code == 401


async def test_a_feature_that_the_plan_lacks_is_refused(
    web: Web, tenants: Tenants, database: Database
) -> None:
    await tenants.add("small", "Small", plan="free")
    _, key = await ApiKeys(database).create("small", "tests")
    async with web.client(headers={"Authorization": f"Bearer {key}"}) as client:
        answer = await client.post("/imports", files={"file": CONTACTS})
    assert (answer.status_code, problem_of(answer)) == (403, "FeatureNotEnabled")
    # For the tenant, who cannot change its plan: not the operator's sentence.
    assert answer.json()["error"]["message"] == "Your plan does not include imports."


async def test_a_suspended_tenant_is_not_told_what_only_the_operator_can_do(
    web: Web, tenants: Tenants
) -> None:
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    async with web.client("acme") as client:
        answer = await client.post("/imports", files={"file": CONTACTS})
    assert (answer.status_code, problem_of(answer)) == (403, "TenantSuspended")
    assert answer.json()["error"]["message"].startswith("This account is suspended.")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/imports?limit=0", "The request does not fit: limit: it must be 1 or more."),
        ("/imports?limit=x", "The request does not fit: limit: it must be a whole number."),
        ("/search", "The request does not fit: q: it is missing."),
    ],
)
async def test_a_parameter_that_does_not_fit_is_told_in_plain_words(
    web: Web, path: str, sentence: str
) -> None:
    async with web.client("acme") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, sentence)


async def test_a_refused_method_is_answered_with_all_that_the_path_has(web: Web) -> None:
    async with web.client("acme") as client:
        for path, allowed in (
            ("/exports", "GET, HEAD, OPTIONS, POST"),
            ("/integrations/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
            ("/webhooks/payments/acme", "OPTIONS, POST"),
            ("/openapi.json", "GET, HEAD, OPTIONS"),
            ("/healthz", "GET, HEAD, OPTIONS"),
        ):
            answer = await client.patch(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
            told = await client.options(path)
            assert (told.status_code, told.content, told.headers["allow"]) == (204, b"", allowed)


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/exports", {}, "The request does not fit: dataset: it is missing."),
        (
            "/reports",
            {
                "kind": "usage.by_route",
                "parameters": {"first": "2013-02-02", "last": "2013-02-01"},
            },
            "The parameters of usage.by_route do not fit: the last day is before the first.",
        ),
    ],
)
async def test_what_does_not_fit_is_told_without_names_of_classes(
    web: Web, path: str, body: dict[str, object], sentence: str
) -> None:
    async with web.client("acme") as client:
        answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, sentence)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("acme.door.example", 404),
        ("ACME.door.example.:8000", 404),
        ("globex.door.example", 403),
        ("nobody.door.example", 403),
        ("door.example", 404),
        ("evil.example", 404),
    ],
)
async def test_a_host_name_must_agree_with_the_key(web: Web, host: str, status: int) -> None:
    async with web.client("acme", headers={"Host": host}) as client:
        answer = await client.get(f"/imports/{uuid4()}")
        assert answer.status_code == status
    async with web.client(headers={"Host": host}) as client:
        assert (await client.get(f"/imports/{uuid4()}")).status_code == 401


async def test_a_host_name_has_no_case(web: Web, database: Database, tenants: Tenants) -> None:
    await tenants.add("Initech", "Initech", plan="enterprise")
    _, key = await ApiKeys(database).create("Initech", "tests")
    for host, status in (("initech.door.example", 404), ("acme.door.example", 403)):
        headers = {"Authorization": f"Bearer {key}", "Host": host}
        async with web.client(headers=headers) as client:
            assert (await client.get(f"/imports/{uuid4()}")).status_code == status


async def test_an_address_chooses_no_tenant(web: Web) -> None:
    async with web.client("acme") as client:
        for name in ("tenant_id", "tenant", "x"):
            answer = await client.post(f"/imports?{name}=globex", files={"file": CONTACTS})
            assert (answer.status_code, problem_of(answer)) == (422, "InvalidRequest")


async def test_too_many_calls_are_told_when_to_come_again(web: Web) -> None:
    await limit_rate(web.door.database, "enterprise", http=2)
    async with web.client("acme") as client, web.client("globex") as other:
        answers = [await client.get(f"/imports/{uuid4()}") for _ in range(3)]
        theirs = await other.get(f"/imports/{uuid4()}")
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 2
    assert theirs.status_code == 404


async def test_doors_on_one_redis_count_a_tenants_calls_together(
    web: Web, state: SharedState, redis_url: str
) -> None:
    await limit_rate(web.door.database, "enterprise", http=0.1)
    another = SharedState(redis_url, timeout=PATIENT)
    doors = [
        replace(web.door, rates=Rates(each), stopping=asyncio.Event()) for each in (state, another)
    ]
    statuses = []
    for door in doors:
        async with answering(door) as url, replace(web, url=url).client("acme") as client:
            statuses.append((await client.get(f"/imports/{uuid4()}")).status_code)
    await another.close()
    assert statuses == [404, 429]


async def test_a_door_counts_by_itself_while_its_redis_does_not_answer(
    web: Web, own_redis: RedisServer
) -> None:
    await limit_rate(web.door.database, "enterprise", http=0.1)
    state = SharedState(own_redis.url, timeout=timedelta(milliseconds=100))
    door = replace(web.door, rates=Rates(state), stopping=asyncio.Event())
    async with answering(door) as url, replace(web, url=url).client("acme") as client:
        with own_redis.paused():
            answers = [await client.get(f"/imports/{uuid4()}") for _ in range(2)]
    await state.close()
    assert [answer.status_code for answer in answers] == [404, 429]


async def test_a_rate_below_one_a_second_lets_one_through_in_several(web: Web) -> None:
    await limit_rate(web.door.database, "enterprise", http=0.1)
    async with web.client("acme") as client:
        answers = [await client.get(f"/imports/{uuid4()}") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [404, 429]
    assert 2 <= int(answers[1].headers["retry-after"]) <= 10


async def test_two_tenants_calls_at_once_stay_in_their_own_scopes(
    web_and_temporal: Web,
) -> None:
    """Many requests on few connections: each reads and writes only its own rows."""
    web = web_and_temporal

    async def call(client: httpx.AsyncClient, tenant: str, number: int) -> None:
        answer = await client.post(
            "/jobs/search.index",
            json={"input": {"kind": "contact", "ref": str(CONTACT)}, "key": f"{tenant}-{number}"},
        )
        assert answer.status_code == 202, answer.text
        state = await client.get(answer.json()["links"]["self"])
        assert state.json()["status"] == "waiting"
        other = "globex" if tenant == "acme" else "acme"
        foreign = await client.get(f"/jobs/search.index/{other}-{number}")
        assert foreign.status_code == 404
        assert foreign.json()["error"]["message"] == "This job has no run with this key."

    await limit_rate(web.door.database, "enterprise", http=10_000)
    async with web.client("acme") as acme, web.client("globex") as globex:
        await asyncio.gather(
            *(call(acme, "acme", n) for n in range(15)),
            *(call(globex, "globex", n) for n in range(15)),
        )
    for tenant in ("acme", "globex"):
        with web.acting_for(tenant):
            async with tenant_session() as session:
                keys = await session.scalars(text("select key from tenancy.outbox_messages"))
        assert sorted(keys) == sorted(f"{tenant}-{n}" for n in range(15))
    assert current_scope() is None


async def test_a_request_that_comes_early_on_anothers_connection_has_its_own_scope(
    web: Web,
) -> None:
    parts = urlsplit(web.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for tenant in ("acme", "globex", "acme"):
        body = json.dumps({"input": {"kind": "contact", "ref": str(CONTACT)}, "key": tenant})
        writer.write(
            f"POST /jobs/search.index HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: Bearer {web.keys[tenant]}\r\nContent-Type: application/json\r\n\r\n"
            f"{body}".encode()
        )
    said = b""
    while said.count(b" 202 Accepted") < 3:
        piece = await reader.read(4096)
        assert piece
        assert b" 500 " not in piece
        said += piece
    writer.close()
    await writer.wait_closed()
    for tenant in ("acme", "globex"):
        with web.acting_for(tenant):
            async with tenant_session() as session:
                keys = await session.scalars(text("select key from tenancy.outbox_messages"))
        assert list(keys) == [tenant]


async def test_a_bug_is_told_without_what_it_says(
    door: Door, web: Web, log_lines: LogLines
) -> None:
    broken: Any = None
    async with (
        answering(replace(door, keys=broken)) as url,
        replace(web, url=url).client("acme") as client,
    ):
        answer = await client.get(f"/imports/{uuid4()}")
    assert (answer.status_code, problem_of(answer)) == (500, "InternalError")
    told = "The request failed, and was logged. Try again later."
    assert answer.json()["error"]["message"] == told
    assert "NoneType" not in answer.text
    assert "AttributeError" in log_lines.text  # its type and frames; its words may be a tenant's
    assert "NoneType" not in log_lines.text
    assert web.keys["acme"] not in log_lines.text


async def test_a_tokens_claim_names_the_tenant(door: Door) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    reader = Tokens({None: key.public_key()}, audience="door", issuer="login")
    said = {"tenant": "acme", "aud": "door", "iss": "login", "exp": time.time() + 60}
    headers = {"Authorization": f"Bearer {jwt.encode(said, key, 'EdDSA')}"}
    forged = {"Authorization": f"Bearer {jwt.encode({**said, 'aud': 'x'}, key, 'EdDSA')}"}
    async with (
        answering(replace(door, tokens=reader)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        started = await client.post("/imports", files={"file": CONTACTS}, headers=headers)
        state = await client.get(started.json()["links"]["self"], headers=headers)
        refused = await client.get(started.json()["links"]["self"], headers=forged)
    assert state.json()["tenant_id"] == "acme"
    assert refused.status_code == 401
