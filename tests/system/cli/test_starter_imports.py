"""A person imports contact files and asks about them; a relay and a worker do the rest."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from dev.devstack.postgres import DatabaseUrls
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.sdk.lookups import if_known
from tests.fixtures.relay import running
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import Batch, Command, Said, Starter

CONTACTS = "email,name\nann@a.example,Ann\nann@a.example,Anna\nbob@a.example,Bob\nnobody,No\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter_environ: dict[str, str]) -> Path:
    """A file with one rejected contact, and object storage for this process and the command."""
    url = (tmp_path / "objects").as_uri()
    monkeypatch.setenv("STORAGE_URL", url)
    starter_environ["STORAGE_URL"] = url
    path = tmp_path / "people.csv"
    path.write_text(CONTACTS)
    return path


@pytest.fixture
async def airlines(tenants: Tenants) -> None:
    for tenant, plan in {"acme": "enterprise", "globex": "enterprise", "poor": "free"}.items():
        await tenants.add(tenant, tenant, plan=plan)


@pytest.fixture
async def running_jobs(
    saas: Client, make_relay: Callable[..., Relay], airlines: None, file: Path
) -> AsyncIterator[None]:
    async with saas_worker(saas, task_queue=Queue.DEFAULT), running(make_relay()):
        yield


def counted(said: Said) -> dict[str, object]:
    assert "error" not in said.document, said.err
    names = ("tenant_id", "status", "rows", "imported", "updated", "rejected")
    return {name: said.document[name] for name in names}


async def test_an_import_whose_row_has_unreadable_json_is_a_sentence(
    starter: Starter, running_jobs: None, file: Path, database_urls: DatabaseUrls
) -> None:
    done = await starter("imports", "start", str(file), "--tenant", "acme", "--wait", "--json")
    monstrous = """('{"because": ' || repeat('9', 4500) || '}')::jsonb"""
    with connect(database_urls.superuser) as superuser:
        superuser.execute(f"update imports set reading = {monstrous}".encode())
    said = await starter("imports", "show", done.document["id"], "--tenant", "acme")
    assert said.code == 2
    assert said.err.startswith(f"ImportUnreadable: the row of import {done.document['id']} has ")


DONE = {
    "tenant_id": "acme",
    "status": "completed",
    "rows": 4,
    "imported": 2,
    "updated": 1,
    "rejected": 1,
}


@pytest.mark.usefixtures("running_jobs")
async def test_a_file_is_imported_and_shown_and_rejected_rows_are_no_failure(
    starter: Starter, file: Path
) -> None:
    said = await starter("imports", "start", str(file), "--tenant", "acme", "--wait", "--json")
    assert (said.code, counted(said)) == (0, DONE)
    import_id = said.document["id"]
    assert said.document["error_file"] == f"acme/imports/{import_id}-rejected.csv"
    assert said.document["progress"] == 1.0
    to = file.with_name("rejected.csv")
    saved = await starter("imports", "errors", import_id, "--tenant", "acme", "--to", str(to))
    assert (saved.code, saved.out) == (0, f"{to} has 1 rejected row of people.csv.\n")
    assert "nobody" in to.read_text()
    other = await starter("imports", "errors", import_id, "--tenant", "globex", "--to", f"{to}2")
    assert (other.code, other.out) == (2, "")
    ended = await starter("imports", "cancel", import_id, "--tenant", "acme")
    assert (ended.code, ended.out) == (2, "")
    assert "this import is already completed." in ended.err
    shown = await starter("imports", "show", import_id, "--tenant", "acme")
    assert shown.code == 0
    assert "completed, 100% of the file has been read" in shown.out
    assert f"acme%2Fcontacts.import%2F{import_id}" in shown.out
    foreign = await starter("imports", "show", import_id, "--tenant", "globex")
    assert (foreign.code, foreign.err) == (
        2,
        f"ImportNotFound: globex has no import {import_id}.\n",
    )


@pytest.mark.usefixtures("running_jobs")
async def test_a_dry_run_counts_the_same_and_a_bad_file_fails_the_command(
    starter: Starter, file: Path
) -> None:
    start = ("imports", "start", str(file), "--tenant", "acme", "--wait")
    said = await starter(*start, "--dry-run", "--json")
    assert (said.code, counted(said)) == (0, DONE)
    bad = file.with_name("bad.csv")
    bad.write_text("name\nAnn\n")
    said = await starter("imports", "start", str(bad), "--tenant", "acme", "--wait")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith('ImportFailed: the header has no column "email"')


@pytest.mark.usefixtures("running_jobs")
async def test_an_encoding_that_is_not_sure_is_asked_for_and_named_in_the_next_command(
    starter: Starter, file: Path
) -> None:
    sent = file.with_name("names.csv")
    sent.write_bytes("email,name\na@a.example,Muñoz\nb@a.example,Zoë\n".encode("cp1252"))
    start = ("imports", "start", str(sent), "--tenant", "acme", "--wait", "--json")
    asked = await starter(*start, "--dry-run")
    assert asked.code == 1
    assert (asked.document["status"], asked.document["encoding"]) == ("failed", None)
    error = asked.document["error"]
    assert (error["type"], asked.document["error_type"]) == ("EncodingUnsure", "EncodingUnsure")
    assert "--encoding windows-125" in error["message"]
    candidates = {each["encoding"]: each["sample"] for each in asked.document["candidates"]}
    assert "a@a.example,Muñoz" in candidates["windows-1252"]
    said = await starter(*start, "--encoding", "latin1")
    assert counted(said) == {**DONE, "rows": 2, "updated": 0, "rejected": 0}
    assert (said.document["encoding"], said.document["delimiter"]) == ("windows-1252", ",")
    shown = await starter("imports", "show", said.document["id"], "--tenant", "acme")
    assert 'windows-1252 (as its sender says), cells separated by ","' in shown.out


@pytest.mark.usefixtures("running_jobs")
async def test_what_a_file_says_does_nothing_to_the_terminal(starter: Starter, file: Path) -> None:
    sent = file.with_name("escapes.csv")
    sent.write_bytes(b"email,\x1b[2J\x1b]0;owned\x07col,\x1b[2J\x1b]0;owned\x07col\r\n")
    start = ("imports", "start", str(sent), "--tenant", "acme", "--wait")
    for said in (await starter(*start), await starter(*start, "--json")):
        assert said.code == 1
        assert not {"\x1b", "\x07"} & {*said.out, *said.err}
        assert "names a column twice" in said.err


@pytest.mark.usefixtures("airlines")
async def test_it_answers_at_once_and_what_nobody_has_begun_is_processing(
    starter: Starter, file: Path
) -> None:
    said = await starter("imports", "start", str(file), "--tenant", "acme", "--json")
    assert said.code == 0
    assert (said.document["status"], said.document["rows"]) == ("processing", 0)
    shown = await starter("imports", "show", said.document["id"], "--tenant", "acme", "--json")
    assert shown.document["status"] == "processing"


async def test_an_import_whose_run_was_terminated_is_shown_as_failed(
    starter: Starter, file: Path, airlines: None, saas: Client, make_relay: Callable[..., Relay]
) -> None:
    said = await starter("imports", "start", str(file), "--tenant", "acme", "--json")
    import_id = said.document["id"]
    async with running(make_relay()):
        handle = saas.get_workflow_handle(said.document["workflow_id"])
        await until_started(handle)
        await handle.terminate()
    shown = await starter("imports", "show", import_id, "--tenant", "acme", "--json")
    assert (shown.code, shown.document["status"]) == (0, "failed")
    assert "its run has ended (terminated)" in shown.document["error"]["message"]


async def until_started(handle: WorkflowHandle[Any, Any]) -> None:
    while await if_known(handle.describe()) is None:  # noqa: ASYNC110  # the relay starts it
        await asyncio.sleep(0.05)


REFUSED: list[tuple[tuple[str, ...], dict[str, str | None], str]] = [
    (("start", "FILE", "--tenant", "poor"), {}, "FeatureNotEnabled: contacts.import needs the"),
    (("start", "FILE", "--tenant", "nobody"), {}, "TenantUnknown: there is no tenant nobody"),
    (("start", "FILE", "--tenant", "acme", "--batch-size", "1"), {}, "InvalidPayload: "),
    (("start", "none.csv", "--tenant", "acme"), {}, "UsageError: "),
    (
        ("start", "FILE", "--tenant", "acme", "--encoding", "windows-1520"),
        {},
        'EncodingUnknown: there is no text encoding "windows-1520". Did you mean windows-1252',
    ),
    (("start", "FILE", "--tenant", "acme", "--encoding", "zip"), {}, "EncodingUnknown: "),
    (("show", "x", "--tenant", "acme"), {}, "UsageError: "),
    (("show", str(uuid.uuid4()), "--tenant", "acme"), {}, "ImportNotFound: "),
    (
        ("start", "FILE", "--tenant", "acme"),
        {"STORAGE_URL": None},
        "ConfigurationError: this process has no object storage. Set STORAGE_URL",
    ),
]


@pytest.mark.usefixtures("airlines")
async def test_what_cannot_be_imported_is_refused_and_nothing_is_kept(
    batch: Batch, file: Path, tmp_path: Path
) -> None:
    given = [
        Command(["imports", *(str(file) if word == "FILE" else word for word in words)], variables)
        for words, variables, _ in REFUSED
    ]
    for said, (_, _, sentence) in zip(await batch(given), REFUSED, strict=True):
        assert (said.code, said.err[: len(sentence)]) == (2, sentence)
    assert not list((tmp_path / "objects").rglob("*.csv"))
