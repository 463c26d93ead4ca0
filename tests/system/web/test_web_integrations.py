"""Integrations over HTTP: set up, synced and removed; the credential never comes back."""

from __future__ import annotations

import json
import stat
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from starlette.responses import Response
from temporalio.client import Client, WorkflowFailureError

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.postgres.database import tenant_session
from tests.fixtures.log_lines import LogLines
from tests.fixtures.relay import messages_of, running
from tests.fixtures.saas import saas_worker
from tests.fixtures.web import Web, problem_of
from tests.saas.jobs.test_integrations import Partner, numbered, partner
from tests.system.web.test_web_exports import until

__all__ = ["partner"]

SECRET = "hunter2-hunter2"
URL = "https://api.x.example/records"
HOST = "https://api.x.example:443"
FINE = {"url": URL, "credential": SECRET}


def stored(web: Web, tenant: str = "acme") -> dict[str, str]:
    """Returns a tenant's credentials in the secret store."""
    folder = web.folder / "secrets" / tenant
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}


async def rows_of(database_urls: DatabaseUrls, web: Web) -> str:
    """Returns every row of acme's tables as one text."""
    found = []
    with web.acting_for("acme"):
        async with tenant_session() as session:
            for table in ("integrations", "audit_entries", "tenancy.outbox_messages"):
                rows = await session.execute(text(f"select to_jsonb(t) from {table} as t"))
                found += [json.dumps(row) for row in rows.scalars()]
    return "\n".join(found)


async def test_one_is_set_up_changed_listed_and_removed(
    web: Web, database_urls: DatabaseUrls, log_lines: LogLines
) -> None:
    answers = []
    async with web.client("acme") as client, web.client("globex") as other:
        added = await client.put("/integrations/crm", json=FINE)
        again = await client.put("/integrations/crm", json=FINE)
        assert [added.status_code, again.status_code] == [201, 200]
        assert stored(web) == {"integrations.crm": SECRET, "integrations.crm.host": HOST}
        for path in (web.folder / "secrets" / "acme").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

        moved = await client.put("/integrations/crm", json={"url": f"{URL}/v2"})
        shown = await client.get("/integrations/crm")
        listed = await client.get("/integrations")
        assert shown.json()["url"] == f"{URL}/v2"
        assert (shown.json()["status"], shown.json()["has_credential"]) == ("never", True)
        assert [each["name"] for each in listed.json()["items"]] == ["crm"]

        for method, address in (
            ("GET", "/integrations/crm"),
            ("DELETE", "/integrations/crm"),
            ("POST", "/integrations/crm/sync"),
        ):
            foreign = await other.request(method, address)
            assert (foreign.status_code, problem_of(foreign)) == (404, "IntegrationUnknown")
        assert (await other.get("/integrations")).json()["items"] == []

        synced = await client.post("/integrations/crm/sync")
        repeated = await client.post("/integrations/crm/sync")
        assert (synced.status_code, repeated.status_code) == (202, 202)
        rows = await rows_of(database_urls, web)
        removed = await client.delete("/integrations/crm")
        gone = await client.get("/integrations/crm")
        assert (removed.status_code, removed.content, gone.status_code) == (204, b"", 404)
        answers += [added, again, moved, shown, listed, synced, repeated]
    assert stored(web) == {}
    rows += await rows_of(database_urls, web)
    assert "integration.added" in rows
    assert "integration.removed" in rows
    said = rows + "".join(answer.text for answer in answers) + str(log_lines.all("web.answered"))
    assert SECRET not in said


@pytest.mark.parametrize(
    ("name", "sent", "problem"),
    [
        ("crm", {"url": "http://x.example", "credential": SECRET}, "AddressRefused"),
        ("crm", {"url": f"https://me:{SECRET}@x.example", "credential": "c"}, "AddressRefused"),
        ("crm", {"url": "ftp://x.example", "credential": SECRET}, "AddressRefused"),
        ("crm", {"url": "/records", "credential": SECRET}, "AddressRefused"),
        ("crm", {"url": "https://", "credential": SECRET}, "AddressRefused"),
        ("crm", {"url": "https://x.example\x1b[2J", "credential": SECRET}, "IntegrationInvalid"),
        ("crm", {"url": "https://x.example/\x00", "credential": SECRET}, "IntegrationInvalid"),
        ("crm", {"url": "https://x.example/" + "a" * 2_000, "credential": "c"}, "InvalidPayload"),
        ("crm", {"url": URL}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": ""}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": f"{SECRET}\r\nX: y"}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": f"{SECRET}é"}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": f" {SECRET}"}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": SECRET * 5_000}, "IntegrationInvalid"),
        ("crm", {"url": URL, "credential": [SECRET]}, "InvalidPayload"),
        ("crm", {"url": URL, "credential": {"token": SECRET}}, "InvalidPayload"),
        ("crm", {"url": URL, "credentials": SECRET}, "InvalidPayload"),
        ("crm", {"url": [SECRET], "credential": "c"}, "InvalidPayload"),
        ("CRM", FINE, "IntegrationInvalid"),
        ("..", FINE, "IntegrationInvalid"),
        ("a.b", FINE, "IntegrationInvalid"),
        ("%2e%2e%2fglobex", FINE, "NotFound"),
        ("%00", FINE, "IntegrationInvalid"),
        ("a" * 64, FINE, "IntegrationInvalid"),
    ],
)
async def test_what_cannot_be_set_up_is_refused_without_telling_the_credential(
    web: Web, name: str, sent: dict[str, Any], problem: str
) -> None:
    async with web.client("acme") as client:
        where = "%2e%2e" if name == ".." else name
        answer = await client.put(f"/integrations/{where}", json=sent)
        assert answer.status_code in (404, 422), answer.text
        assert problem_of(answer) in (problem, "NotFound")
        assert SECRET not in answer.text
        assert (await client.get("/integrations")).json()["items"] == []
    assert stored(web) == stored(web, "globex") == {}


async def test_a_stored_credential_goes_to_no_other_host(web: Web) -> None:
    async with web.client("acme") as client:
        await client.put("/integrations/crm", json=FINE)
        for url in (
            "https://evil.example/records",
            "https://api.x.example:8443/records",
            "https://api.x.example.evil.example/records",
        ):
            answer = await client.put("/integrations/crm", json={"url": url})
            assert (answer.status_code, problem_of(answer)) == (422, "IntegrationInvalid"), url
        assert (await client.get("/integrations/crm")).json()["url"] == URL
        moved = {"url": "https://evil.example/records", "credential": "theirs"}
        assert (await client.put("/integrations/crm", json=moved)).status_code == 200
    assert stored(web) == {
        "integrations.crm": "theirs",
        "integrations.crm.host": "https://evil.example:443",
    }


async def test_without_a_credential_no_sync_is_requested(web: Web) -> None:
    async with web.client("acme") as client:
        await client.put("/integrations/crm", json=FINE)
        (web.folder / "secrets" / "acme" / "integrations.crm").unlink()
        answer = await client.post("/integrations/crm/sync")
        assert (answer.status_code, problem_of(answer)) == (409, "CredentialMissing")
        assert (await client.get("/integrations/crm")).json()["has_credential"] is False
    assert await messages_of(web.door.database, "acme") == []


async def test_a_store_that_cannot_be_written_sets_up_nothing(web: Web) -> None:
    (web.folder / "secrets" / "acme").write_text("in the way")
    async with web.client("acme") as client:
        answer = await client.put("/integrations/crm", json=FINE)
        assert (answer.status_code, problem_of(answer)) == (503, "Unavailable")
        assert (await client.get("/integrations")).json()["items"] == []


async def test_a_sync_copies_the_records_and_one_that_was_removed_fails_nowhere(
    web_and_temporal: Web, saas: Client, make_relay: Any, partner: Partner
) -> None:
    web = web_and_temporal
    partner.records = numbered(25)
    async with web.client("acme") as client:
        put = {"url": partner.url, "credential": SECRET}
        assert (await client.put("/integrations/crm", json=put)).status_code == 201
        await client.put("/integrations/gone", json=put)
        first = await client.post("/integrations/crm/sync")
        late = await client.post("/integrations/gone/sync")
        await client.delete("/integrations/gone")
        async with saas_worker(saas), running(make_relay()):
            for asked in (first, late):
                await until(client, asked.json()["links"]["self"], status="succeeded")
        shown = (await client.get("/integrations/crm")).json()
    assert (shown["status"], shown["error"]) == ("synced", None)
    assert set(partner.credentials) == {f"Bearer {SECRET}"}
    assert len(partner.asked) == 3
    handle = saas.get_workflow_handle(f"acme/integrations.sync/{first.json()['key']}")
    assert SECRET not in str(await handle.fetch_history())


async def test_a_sync_that_failed_says_why_and_a_new_url_begins_anew(
    web_and_temporal: Web, saas: Client, make_relay: Any, partner: Partner
) -> None:
    web = web_and_temporal
    partner.instead = [Response("SECRETS_URL", status_code=401)]
    async with web.client("acme") as client:
        put = {"url": partner.url, "credential": SECRET}
        await client.put("/integrations/crm", json=put)
        asked = await client.post("/integrations/crm/sync")
        async with saas_worker(saas), running(make_relay()):
            run = await until(client, asked.json()["links"]["self"], status="failed")
        shown = (await client.get("/integrations/crm")).json()
        [listed] = (await client.get("/integrations")).json()["items"]
        assert shown["status"] == listed["status"] == "failed"
        assert shown["error"] == listed["error"]
        assert shown["error"] == "The partner refused the credential. Set a new one."
        assert SECRET not in str(run)
        moved = await client.put("/integrations/crm", json=put | {"url": f"{partner.url}?v=2"})
        assert (moved.json()["status"], moved.json()["error"]) == ("never", None)


async def test_a_credential_whose_url_was_not_committed_goes_to_no_other_host(
    web_and_temporal: Web,
    saas: Client,
    make_relay: Any,
    partner: Partner,
    database_urls: DatabaseUrls,
) -> None:
    """The new URL and its credential are given, and the commit fails."""
    web = web_and_temporal
    theirs = {"url": "https://theirs.example/records", "credential": "only-for-theirs"}
    async with web.client("acme") as client:
        fine = await client.put("/integrations/crm", json={"url": partner.url, "credential": "old"})
        assert fine.status_code == 201
        with psycopg.connect(database_urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute(FAILING_COMMIT)
            assert (await client.put("/integrations/crm", json=theirs)).status_code >= 500
            owner.execute("drop trigger failing on integrations")
        shown = (await client.get("/integrations/crm")).json()
        assert (shown["url"], shown["has_credential"]) == (partner.url, False)
        refused = await client.post("/integrations/crm/sync")
        assert (refused.status_code, problem_of(refused)) == (409, "CredentialMissing")
        # A sync that was requested before runs all the same.
        [integration] = await integration_ids(web)
        async with saas_worker(saas), running(make_relay()):
            failed = await saas.start_workflow(
                "integrations.sync",
                {"tenant_id": "acme", "integration_id": str(integration)},
                id=f"acme/integrations.sync/{integration}",
                task_queue="bulk",
            )
            with pytest.raises(WorkflowFailureError):
                await failed.result()
        assert partner.credentials == []
        # The caller repeats the request that failed.
        assert (await client.put("/integrations/crm", json=theirs)).status_code == 200
        assert (await client.get("/integrations/crm")).json()["has_credential"] is True


FAILING_COMMIT = """
    create or replace function public.failing() returns trigger language plpgsql as
        $$ begin raise exception 'the disk is full' using errcode = 'disk_full'; end $$;
    create constraint trigger failing after update on integrations
        deferrable initially deferred for each row execute function public.failing();
"""


async def integration_ids(web: Web) -> list[Any]:
    with web.acting_for("acme"):
        async with tenant_session() as session:
            return list(await session.scalars(text("select id from integrations")))
