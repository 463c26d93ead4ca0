"""The HTTP API: payment webhooks, and links to files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from saas.services.links import make_link
from saas.services.object_storage import current_storage, object_path
from saas.services.webhooks import sign
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.log_lines import LogLines
from tests.fixtures.web import Web, problem_of

BODY = json.dumps({"type": "payment.succeeded", "timestamp": "2026-11-22T00:00:00Z"}).encode()


def signed(secret: str, event_id: str = "evt_1", *, age: timedelta = timedelta()) -> dict[str, str]:
    return sign(secret, event_id, BODY, datetime.now(UTC) - age)


async def received(web: Web, tenant: str) -> list[tuple[str, str]]:
    """Returns a tenant's stored events, each with the job that it requests."""
    with web.acting_for(tenant):
        async with tenant_session() as session:
            rows = await session.execute(
                text("""
                    select event_id, job
                    from payment_events left join tenancy.outbox_messages on key = event_id
                    order by event_id
                """)
            )
            return [(row.event_id, row.job) for row in rows]


async def post(web: Web, path: str, headers: dict[str, str], body: bytes = BODY) -> httpx.Response:
    async with web.client() as client:
        return await client.post(f"/webhooks/payments{path}", content=body, headers=headers)


async def test_an_event_is_stored_once_however_often_it_comes(web: Web) -> None:
    headers = signed(web.give_secret("acme"))
    answers = [await post(web, "/acme", headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert await received(web, "acme") == [("evt_1", "payments.webhook")]


async def test_two_tenants_events_of_one_id_are_two(web: Web) -> None:
    for tenant in ("acme", "globex"):
        answer = await post(web, f"/{tenant}", signed(web.give_secret(tenant)))
        assert answer.status_code == 200
    for tenant in ("acme", "globex"):
        assert await received(web, tenant) == [("evt_1", "payments.webhook")]


async def test_both_secrets_hold_during_a_rotation(web: Web) -> None:
    old = web.give_secret("acme", "payments.webhook.previous")
    new = web.give_secret("acme")
    for number, secret in enumerate((old, new)):
        assert (await post(web, "/acme", signed(secret, f"evt_{number}"))).status_code == 200
    assert len(await received(web, "acme")) == 2


async def test_every_refusal_is_the_same(web: Web) -> None:
    """A caller learns neither who is a tenant, nor who takes payments, nor what was wrong."""
    secret = web.give_secret("acme")
    good = signed(secret)
    with_another = {**good, "webhook-signature": good["webhook-signature"][:-4] + "AAA="}
    answers = [
        await post(web, "/nobody", good),
        await post(web, "/platform", good),
        await post(web, "/No%20Tenant!", good),
        await post(web, "/globex", good),  # has no secret
        await post(web, "/acme", {}),
        await post(web, "/acme", with_another),
        await post(web, "/acme", good, BODY + b" "),
        await post(web, "/acme", signed(secret, age=timedelta(minutes=6))),
        await post(web, "/acme", signed(secret, age=timedelta(minutes=-6))),
        await post(web, "/acme", {**good, "host": "globex.door.example"}),
        await post(web, "", good),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert problem_of(answers[0]) == "WebhookRejected"
    assert await received(web, "acme") == await received(web, "globex") == []


async def test_our_own_unfit_secret_is_told_to_us_and_the_provider_comes_again(
    web: Web, log_lines: LogLines
) -> None:
    good = signed(web.give_secret("acme"))
    place = web.folder / "secrets" / "acme" / "payments.webhook"
    right = place.read_text()
    place.write_text("whsec_short")
    answer = await post(web, "/acme", good)
    assert (answer.status_code, problem_of(answer)) == (503, "WebhookSecretUnfit")
    assert answer.headers["retry-after"] == "300"
    told = log_lines.one("webhook_secret_unfit")
    assert (told["setting"], told["tenant_id"]) == ("payments.webhook", "acme")
    assert "short" not in log_lines.text
    place.write_text(right)
    assert (await post(web, "/acme", good)).status_code == 200


async def test_an_unfit_secret_beside_the_right_one_does_no_harm(web: Web) -> None:
    web.give_secret("acme", "payments.webhook.previous")
    good = signed(web.give_secret("acme"))
    (web.folder / "secrets" / "acme" / "payments.webhook.previous").write_text("whsec_%")
    assert (await post(web, "/acme", good)).status_code == 200


async def test_a_second_signature_line_hides_no_signature(web: Web) -> None:
    good = signed(web.give_secret("acme"))
    for number, order in enumerate((1, -1)):
        headers = signed(web.give_secret("acme"), f"evt_{number}")
        right = headers.pop("webhook-signature")
        twice = [("webhook-signature", value) for value in ("v1,AAAA", right)[::order]]
        async with web.client() as client:
            answer = await client.post(
                "/webhooks/payments/acme", content=BODY, headers=[*headers.items(), *twice]
            )
        assert answer.status_code == 200
    async with web.client() as client:
        two_ids = [*good.items(), ("webhook-id", "evt_other")]
        answer = await client.post("/webhooks/payments/acme", content=BODY, headers=two_ids)
    assert answer.status_code == 401


async def test_a_tenants_own_host_name_says_whose_endpoint_it_is(web: Web) -> None:
    headers = signed(web.give_secret("acme"))
    answer = await post(web, "", {**headers, "host": "acme.door.example"})
    assert answer.status_code == 200
    assert await received(web, "acme") == [("evt_1", "payments.webhook")]


async def test_a_tenant_is_named_in_its_own_case(web: Web, tenants: Tenants) -> None:
    await tenants.add("Initech", "Initech", plan="enterprise")
    headers = signed(web.give_secret("Initech"))
    for named in ("/initech", "/INITECH"):
        assert (await post(web, named, headers)).status_code == 401
    agreeing = {**headers, "host": "initech.door.example"}
    another = {**headers, "host": "acme.door.example"}
    assert (await post(web, "/Initech", another)).status_code == 401
    assert (await post(web, "", agreeing)).status_code == 401  # it names no tenant of that case
    assert (await post(web, "/Initech", agreeing)).status_code == 200
    assert await received(web, "Initech") == [("evt_1", "payments.webhook")]


async def test_who_is_suspended_may_pay(web: Web, tenants: Tenants) -> None:
    headers = signed(web.give_secret("acme"))
    await tenants.set_status("acme", TenantStatus.SUSPENDED)
    assert (await post(web, "/acme", headers)).status_code == 200
    await tenants.set_status("acme", TenantStatus.DELETED)
    assert (await post(web, "/acme", signed(web.give_secret("acme"), "evt_2"))).status_code == 401


async def test_a_body_over_256_kib_is_refused(web: Web) -> None:
    web.give_secret("acme")
    answer = await post(web, "/acme", {}, b"x" * (256 * 1024 + 1))
    assert (answer.status_code, problem_of(answer)) == (413, "BodyTooLarge")


async def put(web: Web, tenant: str, name: str = "export.csv") -> str:
    """Stores a tenant's file; returns its path."""
    with web.acting_for(tenant):
        path = object_path("exports", name)
        await current_storage().put(path, f"of {tenant}".encode())
    return path


def link(web: Web, tenant: str, path: str, hours: float = 1) -> str:
    with web.acting_for(tenant):
        return make_link(path, timedelta(hours=hours)).removeprefix("http://door.example")


async def test_a_link_opens_the_file_to_be_kept(web: Web) -> None:
    address = link(web, "acme", await put(web, "acme"))
    async with web.client() as client:
        answer = await client.get(address)
    assert (answer.status_code, answer.text) == (200, "of acme")
    assert answer.headers["content-disposition"] == 'attachment; filename="export.csv"'
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_what_no_link_opens(web: Web, tenants: Tenants, log_lines: Any) -> None:
    path = await put(web, "acme")
    good = link(web, "acme", path)
    with web.acting_for("acme"):
        gone = make_link(object_path("exports", "gone.csv"), timedelta(hours=1))
    async with web.client() as client:
        expired = await client.get(link(web, "acme", path, hours=-1))
        forged = await client.get(f"{good[:-3]}AAA")
        nonsense = await client.get("/downloads/x")
        missing = await client.get(gone.removeprefix("http://door.example"))
        await tenants.set_status("acme", TenantStatus.DELETED)
        of_nobody = await client.get(good)
    assert (expired.status_code, problem_of(expired)) == (410, "LinkExpired")
    for answer in (forged, nonsense):
        assert (answer.status_code, problem_of(answer)) == (404, "LinkForged")
    for answer in (missing, of_nobody):
        assert (answer.status_code, problem_of(answer)) == (404, "FileUnknown")
    token = good.rsplit("/", 1)[-1]
    lines = log_lines.all("web.answered")
    assert {line["route"] for line in lines} == {"/downloads/{token}"}
    assert not any(token in str(line) for line in lines)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/nowhere"])
async def test_every_answer_keeps_browsers_from_harm(web: Web, path: str) -> None:
    async with web.client() as client:
        answer = await client.get(path)
    for name in ("content-security-policy", "x-frame-options", "referrer-policy"):
        assert answer.headers[name]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "http://" not in answer.headers["content-security-policy"]
    if path == "/nowhere":
        assert (answer.status_code, problem_of(answer)) == (404, "NotFound")
    else:
        assert answer.status_code == 200


def told_of(answer: dict[str, Any]) -> bool:
    """Returns whether an answer is documented as a problem."""
    schema: str = answer["content"]["application/json"]["schema"]["$ref"]
    return schema.endswith("/ProblemAnswer")


UNKEYED = ("/webhooks", "/downloads")


async def test_the_reference_has_every_route_with_its_errors(web: Web) -> None:
    async with web.client() as client:
        api = (await client.get("/openapi.json")).json()
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            assert operation["description"]
            assert {"422", "429", "503"} <= set(operation["responses"])
            for status, answer in operation["responses"].items():
                assert status < "4" or told_of(answer), (path, status)
            keyed = bool(operation.get("security"))
            assert keyed is not path.startswith(UNKEYED), (method, path)
            assert not keyed or "401" in operation["responses"]
