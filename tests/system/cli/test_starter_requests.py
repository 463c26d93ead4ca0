"""A person requests a tenant's exports, reports and syncs, and searches; the jobs really run."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from temporalio.client import Client

from dev.sample_data.airlines import Flight
from dev.sample_data.load import load_events
from processes.cli.saved_files import save
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.database import Database
from tests.fixtures.outside import serving
from tests.fixtures.relay import messages_of, running
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import STARTER, UI, Batch, Command, Starter

TOKEN = "token-of-acme-Zq3"
CONTACTS = "email,name\nann@a.example,Ann Ångström\nbob@a.example,Bob\n"
FLIGHT = Flight(
    tenant_id="acme",
    time_hour="2013-04-15T12:00:00Z",
    carrier="AC",
    flight=1,
    origin="JFK",
    destination="LAX",
    tail_number=None,
    distance=100,
    air_time=60,
    departure_delay=None,
    cancelled=False,
)
APRIL = '{"first": "2013-04-01", "last": "2013-04-30"}'


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter_environ: dict[str, str]
) -> Path:
    """A folder for files, with storage and secrets for this process and the commands."""
    for name in ("STORAGE_URL", "SECRETS_URL"):
        place = tmp_path / name.lower()
        place.mkdir()
        monkeypatch.setenv(name, place.as_uri())
        starter_environ[name] = place.as_uri()
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
async def airlines(tenants: Tenants, database: Database) -> None:
    for tenant, plan in {"acme": "enterprise", "globex": "enterprise", "poor": "free"}.items():
        await tenants.add(tenant, tenant, plan=plan)
    await load_events(database, "acme", [FLIGHT])


@pytest.fixture
async def running_jobs(
    saas: Client, make_relay: Callable[..., Relay], airlines: None, folder: Path
) -> AsyncIterator[None]:
    async with (
        saas_worker(saas, task_queue=Queue.DEFAULT),
        saas_worker(saas, task_queue=Queue.BULK),
        running(make_relay()),
    ):
        yield


@pytest.fixture
async def partner(
    monkeypatch: pytest.MonkeyPatch, starter_environ: dict[str, str]
) -> AsyncIterator[tuple[str, list[str]]]:
    """A partner's URL, and the credentials that it is sent."""
    credentials: list[str] = []

    async def answer(request: Request) -> JSONResponse:
        credentials.append(request.headers["authorization"])
        return JSONResponse({"items": [{"id": 1}, {"id": 2}], "cursor": "end", "has_more": False})

    async with serving(Starlette(routes=[Route("/records", answer)])) as port:
        monkeypatch.setenv("OUTGOING_HTTP_ALLOW", f"127.0.0.1:{port}")
        starter_environ["OUTGOING_HTTP_ALLOW"] = f"127.0.0.1:{port}"
        yield f"http://127.0.0.1:{port}/records", credentials


def stored_secrets() -> list[str]:
    """Returns the credentials that the secret store has."""
    folder = Path(os.environ["SECRETS_URL"].removeprefix("file://"))
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("running_jobs")
async def test_an_export_is_requested_listed_shown_and_saved(
    starter: Starter, folder: Path
) -> None:
    contacts = folder / "contacts.csv"
    contacts.write_text(CONTACTS)
    imported = await starter(
        "imports", "start", str(contacts), "--tenant", "acme", "--wait", "--json"
    )
    assert imported.code == 0, imported.err
    made = await starter("exports", "start", "contacts", "--tenant", "acme", "--wait", "--json")
    assert made.code == 0, made.err
    document = made.document
    assert (document["status"], document["rows"], document["dataset"]) == (
        "completed",
        2,
        "contacts",
    )
    assert document["url"].startswith(f"{UI}/namespaces/")
    export_id = document["id"]
    mine = ("--tenant", "acme", "--json")
    (listed,) = (await starter("exports", "list", *mine)).document
    assert listed == {name: value for name, value in document.items() if name != "url"}
    assert (await starter("exports", "show", export_id, *mine)).document == listed
    shown = await starter("exports", "show", export_id, "--tenant", "acme")
    assert f"exports download {export_id} --tenant acme --to contacts.csv" in shown.out
    to = folder / "saved.csv"
    saved = await starter("exports", "download", export_id, "--to", str(to), *mine)
    assert (saved.code, saved.document["bytes"]) == (0, document["bytes"]), saved.err
    rows = list(csv.DictReader(io.StringIO(to.read_text())))
    assert [row["email"] for row in rows] == ["ann@a.example", "bob@a.example"]
    assert to.stat().st_size == document["bytes"]
    to.write_text("mine")
    again = ("exports", "download", export_id, "--tenant", "acme", "--to", str(to))
    refused = await starter(*again)
    assert (refused.code, to.read_text()) == (2, "mine")
    assert "exists already" in refused.err
    assert (await starter(*again, "--force")).code == 0
    assert to.stat().st_size == document["bytes"]
    assert sorted(os.listdir(folder)) == ["contacts.csv", "saved.csv"]  # no drafts
    foreign = await starter("exports", "show", export_id, "--tenant", "globex")
    assert (foreign.code, foreign.out) == (2, "")
    assert foreign.err.startswith(f"ExportNotFound: globex has no export {export_id}.")
    (listed,) = (await starter("imports", "list", *mine)).document
    assert listed.items() <= imported.document.items()


@pytest.mark.usefixtures("running_jobs")
async def test_a_report_is_made_and_shown_with_its_result(starter: Starter) -> None:
    made = await starter(
        *("reports", "start", "usage.by_route", "--tenant", "acme"),
        *("--input", APRIL, "--wait", "--json"),
    )
    assert made.code == 0, made.err
    document = made.document
    assert document["result"] == {
        "routes": [
            {"origin": "JFK", "destination": "LAX", "events": 1, "cancelled": 0, "distance": 100}
        ]
    }
    mine = ("--tenant", "acme", "--json")
    (listed,) = (await starter("reports", "list", *mine)).document
    assert {**listed, "result": document["result"], "url": document["url"]} == document
    shown = await starter("reports", "show", document["id"], "--tenant", "acme")
    assert shown.code == 0
    assert "2013-04-01 to 2013-04-30" in shown.out
    assert "JFK" in shown.out
    foreign = await starter("reports", "show", document["id"], "--tenant", "globex")
    assert foreign.code == 2
    assert foreign.err.startswith("ReportNotFound: globex has no report ")


@pytest.mark.usefixtures("running_jobs")
async def test_an_integration_is_set_up_synced_and_removed_and_its_credential_is_never_shown(
    starter: Starter, folder: Path, partner: tuple[str, list[str]]
) -> None:
    url, credentials = partner
    secret = folder / "token"
    secret.write_text(f"{TOKEN}\n")
    mine = ("--tenant", "acme", "--json")
    said = [
        await starter(
            *("integrations", "set", "crm", "--url", url, "--credential-file", str(secret)), *mine
        ),
        await starter("integrations", "set", "crm", "--url", url, *mine),
        await starter("integrations", "list", *mine),
        await starter("integrations", "sync", "crm", "--wait", *mine),
        await starter("integrations", "list", "--tenant", "acme"),
    ]
    assert [each.code for each in said] == [0, 0, 0, 0, 0], [each.err for each in said]
    assert (said[0].document["added"], said[1].document["added"]) == (True, False)
    (listed,) = said[2].document
    assert (listed["name"], listed["status"], listed["has_credential"]) == ("crm", "never", True)
    assert said[3].document["result"] == {"pages": 1, "records": 2}
    assert set(credentials) == {f"Bearer {TOKEN}"}
    assert "synced" in said[4].out
    assert not any(TOKEN in each.out + each.err for each in said)
    foreign = await starter("integrations", "sync", "crm", "--tenant", "globex")
    assert (foreign.code, foreign.err.split(":")[0]) == (2, "IntegrationNotFound")
    assert (await starter("integrations", "remove", "crm", *mine)).code == 0
    gone = await starter("integrations", "list", "--tenant", "acme")
    assert gone.out == "acme has no integrations.\n"
    assert stored_secrets() == []


@pytest.mark.usefixtures("airlines", "folder")
async def test_a_credential_comes_from_standard_input_too(
    partner: tuple[str, list[str]], starter_environ: dict[str, str]
) -> None:
    arguments = ["integrations", "set", "crm", "--tenant", "acme", "--url", partner[0]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, STARTER, *arguments, "--credential-file", "-"),
        env=starter_environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(f"{TOKEN}\n".encode())
    assert (process.returncode, err) == (0, b"")
    assert TOKEN.encode() not in out
    # The other file says which host it is for.
    assert [each for each in stored_secrets() if not each.startswith("http")] == [TOKEN]


async def test_a_search_finds_what_was_indexed(
    running_jobs: None, starter: Starter, folder: Path
) -> None:
    contacts = folder / "contacts.csv"
    contacts.write_text(CONTACTS)
    done = await starter("imports", "start", str(contacts), "--tenant", "acme", "--wait")
    assert done.code == 0, done.err
    found: list[Any] = []
    for _ in range(200):  # each look is a process; the index follows the import
        said = await starter("search", "ångström", "--tenant", "acme", "--json")
        assert said.code == 0, said.err
        if found := said.document:
            break
    assert [(hit["kind"], hit["title"]) for hit in found] == [("contact", "Ann Ångström")]
    assert set(found[0]) == {"kind", "reference", "title", "snippet", "rank"}
    nothing = await starter("search", "ångström", "--tenant", "globex")
    assert (nothing.code, nothing.out) == (0, "Nothing of that is found.\n")


def refusals(folder: Path) -> list[tuple[str, str]]:
    """Commands that are refused before anything starts, and how their sentences begin."""
    some = uuid4()
    apart = "--tenant acme"
    return [
        ("exports start contacts --tenant nobody", "TenantUnknown: there is no tenant nobody."),
        ("exports start contacts --tenant poor", "FeatureNotEnabled: "),
        ("exports start contacts --tenant asleep", "TenantSuspended: asleep is suspended since"),
        (f"exports start flights {apart}", "UsageError: Invalid value for DATASET: it is one of"),
        (f"exports start contacts {apart} --format xml", "UsageError: Invalid value for --format"),
        (
            f"exports start contact {apart}",
            "UsageError: Invalid value for DATASET: it is one of contacts",
        ),
        (f"exports show x {apart}", "UsageError: Invalid value for ID: the id of an export is a"),
        (f"exports show {some} {apart}", "ExportNotFound: acme has no export"),
        ("exports list --tenant nobody", "TenantUnknown: there is no tenant nobody."),
        (f"exports list {apart} --limit 0", "UsageError: "),
        (f"exports download {some} {apart} --to {folder}", "UsageError: Invalid value for --to"),
        (f"exports download {some} {apart} --to {folder}/a/b", "UsageError: Invalid value for --"),
        (f"exports download {some} {apart} --to {folder}/new", "ExportNotFound: acme has no exp"),
        (f"reports start costs {apart}", "InvalidPayload: the kind of report is unknown."),
        (f"reports start usage.by_route {apart}", "InvalidPayload: "),
        (f"reports start usage.by_route {apart} --input []", "InvalidPayload: the parameters of"),
        (f"reports start usage.by_route {apart} --input {{", "InvalidPayload: the parameters of"),
        (
            'reports start usage.by_route --tenant acme --input {"first":"2999-01-01",'
            '"last":"2999-01-02"}',
            "InvalidPayload: the parameters of usage.by_route begin in the future",
        ),
        (f"reports show x {apart}", "UsageError: Invalid value for ID: the id of a report is a UU"),
        (f"integrations set crm {apart} --url http://a.example", "AddressRefused: "),
        (f"integrations set CRM {apart} --url https://a.example", "IntegrationInvalid: "),
        (
            f"integrations set crm {apart} --url https://a.example",
            "IntegrationInvalid: the integration crm has no credential",
        ),
        (
            f"integrations set crm {apart} --url https://a.example --credential-file {folder}/no",
            "UsageError: Invalid value for --credential-file: the file",
        ),
        (
            f"integrations set crm {apart} --url https://a.example --credential-file {folder}/none",
            "UsageError: Invalid value for --credential-file: the credential is empty.",
        ),
        (
            f"integrations set crm {apart} --url https://a.example --credential-file {folder}/two",
            "IntegrationInvalid: a credential is 1 to",
        ),
        (f"integrations sync crm {apart}", "IntegrationNotFound: acme has no integration crm."),
        (f"integrations remove crm {apart}", "IntegrationNotFound: acme has no integration crm."),
        ("integrations set crm --tenant gone --url https://a.example", "TenantOffboarding: gone"),
        ("search ann --tenant nobody", "TenantUnknown: there is no tenant nobody."),
        (f"search {'a' * 1001} {apart}", "QueryInvalid: a query is at most 1,000 characters"),
        ("imports list --tenant ../acme", "TenantInvalid: "),
    ]


async def test_bad_input_is_refused_in_one_sentence_before_anything_starts(
    airlines: None, tenants: Tenants, folder: Path, batch: Batch, database: Database
) -> None:
    await tenants.add("asleep", "Asleep", plan="enterprise")
    await tenants.set_status("asleep", TenantStatus.SUSPENDED)
    await tenants.add("gone", "Gone", plan="enterprise")
    await tenants.set_status("gone", TenantStatus.OFFBOARDING)
    (folder / "none").write_text("\n")
    (folder / "two").write_text("a\nb\n")
    table = refusals(folder)
    found = await batch([Command(command.split(" ")) for command, _ in table])
    for (command, begins), said in zip(table, found, strict=True):
        assert said.code == 2, f"{command}: {said}"
        assert said.err.startswith(begins), f"{command}: {said.err}"
        assert len(said.err.splitlines()) == 1, said.err
        assert said.out == ""
    assert sorted(os.listdir(folder)) == ["none", "two"]
    for tenant in ("acme", "asleep", "gone", "poor"):
        assert await messages_of(database, tenant) == []


async def pieces(*parts: bytes | Exception) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, Exception):
            raise part
        yield part


async def test_a_file_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    to = tmp_path / "file"
    size, problem = await save(pieces(b"a", b"bc"), to, expected=3, force=False)
    assert (size, problem, to.read_bytes()) == (3, None, b"abc")
    _, problem = await save(pieces(b"x"), to, expected=1, force=False)
    assert problem is not None
    assert "has appeared meanwhile" in problem.message
    assert to.read_bytes() == b"abc"
    _, problem = await save(pieces(b"x"), to, expected=2, force=True)
    assert problem is not None
    assert problem.type == "DownloadIncomplete"
    with pytest.raises(OSError, match="broken"):
        await save(pieces(b"x", OSError("broken")), to, expected=2, force=True)
    assert to.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["file"]
    umask = os.umask(0)
    os.umask(umask)
    assert to.stat().st_mode & 0o777 == 0o666 & ~umask


async def test_tenants_are_changed_and_offboarded(tenants: Tenants, batch: Batch) -> None:
    await tenants.add("acme", "Acme", plan="standard", features=["beta"])
    await tenants.add("sleepy", "Sleepy", plan="standard")
    await tenants.set_status("sleepy", TenantStatus.SUSPENDED)
    change = ["tenants", "set", "acme", "--name", "Acme Air", "--plan", "enterprise"]
    change += ["--time-zone", "Europe/Paris", "--add-feature", "gamma", "--remove-feature", "beta"]
    said = await batch(
        [
            Command([*change, "--json"]),
            Command([*change[:3], "--name", "Acme Air"]),
            Command(change[:3]),
            Command([*change[:3], "--plan", "gold"]),
            Command([*change[:3], "--time-zone", "Mars/Base"]),
            Command([*change[:3], "--remove-feature", "exports"]),
            Command([*change[:3], "--remove-feature", "beta"]),
            Command([*change[:3], "--name", " "]),
            Command(["tenants", "set", "nobody", "--name", "x"]),
            Command(["tenants", "offboard", "acme"]),
            Command(["tenants", "offboard", "acme", "--yes", "--reason", "left", "--json"]),
            Command(["tenants", "offboard", "acme", "--json"]),
            Command(["tenants", "offboard", "sleepy", "--yes"]),
            Command(["tenants", "resume", "acme"]),
            Command(["run", "billing.cycle", "--tenant", "acme"]),
        ]
    )
    assert [each.code for each in said] == [0, 0, *([2] * 8), 0, 0, 0, 2, 2], said
    changed = said[0].document
    assert (changed["name"], changed["plan"], changed["time_zone"]) == (
        "Acme Air",
        "enterprise",
        "Europe/Paris",
    )
    assert "gamma" in changed["features"]
    assert "beta" not in changed["features"]
    assert 'No job needs the feature "gamma"' in said[0].err
    assert said[1].out == "acme was like that already.\n"
    kinds = [each.err.split(":")[0] for each in said[2:10]]
    assert kinds == [
        *("UsageError", "PlanUnknown", "TimeZoneUnknown", "FeatureUnknown", "FeatureUnknown"),
        *("UsageError", "TenantUnknown", "Unconfirmed"),
    ]
    assert "from its plan enterprise" in said[5].err
    assert [said[at].document["status"] for at in (10, 11)] == ["offboarding", "offboarding"]
    assert said[10].document["status_since"] == said[11].document["status_since"]
    assert said[14].err.startswith("TenantOffboarding: ")
