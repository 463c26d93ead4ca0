"""Dead letters on the command line: found days later, and in the right tenant."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tables import DeadLetterRow
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.dead_letters.recording import Letter, Source, record
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.held_locks import holding
from tests.fixtures.hostile_messages import insert, take_walls_away
from tests.fixtures.postgres import within
from tests.fixtures.starter import Batch, Command, Starter
from tests.fixtures.worker_process import StartWorker
from tests.system.cli.test_starter import airlines, mend  # noqa: F401  # a fixture

JOB = "billing.cycle"
BY_HAND = ("run", JOB, "--tenant", "broken", "--key", "2013-04", "--wait")
BY_SCHEDULE = ("fan-out", JOB, "--tick", "2013-04", "--wait")
BY_OUTBOX = ("enqueue", JOB, "--tenant", "broken", "--input", '{"period": "2013-04"}')
ID = f"broken/{JOB}/2013-04"


async def invoices(database: Database) -> dict[str, int]:
    """Returns each tenant's number of invoices, as the tenant sees them."""
    found = {}
    for tenant in ("acme", "broken", "sleepy"):
        with within(database, tenant):
            async with tenant_session() as session:
                found[tenant] = await session.scalar(text("select count(*) from invoices"))
    return found


async def until_letter(database: Database) -> DeadLetterRow:
    while True:
        async with database.platform_session("test") as session:
            found = await letters.latest(session, Filter(), limit=2)
        if found:
            [letter] = found
            return letter


@pytest.mark.parametrize(
    "arguments", [BY_HAND, BY_SCHEDULE, BY_OUTBOX], ids=["by hand", "schedule", "outbox"]
)
@pytest.mark.usefixtures("airlines")
async def test_days_later_a_job_comes_back_in_its_own_tenant(
    starter: Starter,
    batch: Batch,
    start_worker: StartWorker,
    database: Database,
    database_urls: DatabaseUrls,
    tenants: Tenants,
    another_namespace: str,
    arguments: tuple[str, ...],
) -> None:
    variables = {"RELAY_DATABASE_URL": database_urls.relay}
    worker = await start_worker("--queue", "bulk").until_ready()
    if arguments is BY_OUTBOX:
        relay = await start_worker("--relay", **variables).until_ready()
    said = await starter(*arguments, "--json")
    assert said.code == (0 if arguments is BY_OUTBOX else 1), said
    letter = await until_letter(database)
    assert (letter.workflow_id, letter.error_type) == (ID, "UsageNotBillable")
    worker.process.kill()
    if arguments is BY_OUTBOX:
        relay.process.kill()
    await mend(database, tenants)
    before = await invoices(database)

    # The server has forgotten the run: this namespace never had it.
    later: dict[str, str | None] = {"TEMPORAL_NAMESPACE": another_namespace, "TENANT": "acme"}
    await start_worker("--queue", "bulk", **later).until_ready()
    id = str(letter.id)
    done, ran, shown, again = await batch(
        [
            Command(["dead-letters", "replay", id, "--by", "ada", "--json"], later),
            Command([*BY_HAND, "--json"], later),
            Command(["dead-letters", "show", id, "--json"], later),
            Command(["dead-letters", "replay", id, "--json"], later),
        ]
    )
    assert (done.code, done.document["replayed"]) == (0, 1)
    assert (ran.code, ran.document["started"]) == (0, False)
    assert ran.document["run_id"] == done.document["letters"][0]["run_id"]
    assert await invoices(database) == {**before, "broken": before["broken"] + 1}
    found = [shown.document[name] for name in ("status", "replays", "handled_by")]
    assert found == ["replayed", 1, "ada"]
    assert (again.code, again.document["resolved"]) == (0, 1)


async def put_letters(database: Database, tenant: str, keys: list[str], message: str) -> None:
    with within(database, tenant):
        async with tenant_session() as session:
            for key in keys:
                id = f"{tenant}/{JOB}/{key}"
                letter = Letter(id, Source.WORKFLOW, "UsageNotBillable", message, 1)
                await record(session, letter, {"period": key})


@pytest.mark.usefixtures("airlines")
async def test_a_replay_starts_only_what_it_may_and_says_the_rest(
    database: Database, tenants: Tenants, batch: Batch
) -> None:
    await put_letters(database, "acme", ["2013-01", "2013-02"], "1 usage event is wrong.")
    await put_letters(database, "sleepy", ["2013-01"], "1 usage event is wrong.")
    await tenants.set_status("sleepy", TenantStatus.SUSPENDED)
    filtered = ("dead-letters", "list", "--older-than", "1h", "--json")
    listed, none, some, again, shown = await batch(
        [
            Command(["dead-letters", "list", "--json"]),
            Command(filtered),
            Command(["dead-letters", "replay", "--job", JOB, "--json"]),
            Command(["dead-letters", "replay", "--newer-than", "1h", "--tenant", "acme", "--json"]),
            Command(["dead-letters", "list", "--status", "open", "--json"]),
        ]
    )
    assert len(listed.document) == 3
    assert set(listed.document[0]) >= {
        "id", "tenant_id", "job", "source", "workflow_id", "error_type", "message", "fingerprint",
        "attempts", "status", "failed_at", "replays",
    }  # fmt: skip
    assert none.document == []
    assert (some.code, some.document["replayed"], some.document["refused"]) == (1, 2, 1)
    assert some.document["error"]["type"] == "ReplayRefused"
    [refused] = [each for each in some.document["letters"] if each["outcome"] == "refused"]
    assert refused["reason"].startswith("TenantSuspended: sleepy is suspended since")
    assert all(each["url"] for each in some.document["letters"] if each != refused)
    assert (again.code, again.document["matched"]) == (0, 0)
    [left] = shown.document
    assert left["tenant_id"] == "sleepy"
    one, words = await batch(
        [
            Command(["dead-letters", "replay", left["id"], "--json"]),
            Command(["dead-letters", "replay", left["id"]]),
        ]
    )
    assert (one.code, one.document["error"]["type"]) == (2, "TenantSuspended")
    assert "Traceback" not in words.err


@pytest.mark.usefixtures("airlines")
async def test_a_letter_that_a_tenants_role_has_made_up_keeps_no_other_back(
    database: Database, database_urls: DatabaseUrls, batch: Batch
) -> None:
    await put_letters(database, "acme", ["2013-01"], "1 usage event is wrong.")
    await put_letters(database, "broken", ["2013-01", "2013-02"], "1 usage event is wrong.")
    locked, no_run = "workflow_id like '%-02'", "workflow_id like 'broken%-01'"
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            f"update tenancy.dead_letters set run_id = 'none', message_id = null where "
            f"{no_run}".encode()
        )
    with holding(
        database_urls.tenant,
        "broken",
        f"select from tenancy.dead_letters where {locked} for update",
    ):
        [said] = await batch([Command(["dead-letters", "replay", "--job", JOB, "--json"])])
    outcomes = {each["workflow_id"]: (each["outcome"], each["marked"]) for each in
                said.document["letters"]}  # fmt: skip
    assert outcomes == {
        f"acme/{JOB}/2013-01": ("replayed", True),
        f"broken/{JOB}/2013-01": ("refused", True),
        f"broken/{JOB}/2013-02": ("replayed", False),
    }
    assert said.code == 1


@pytest.mark.usefixtures("airlines")
async def test_a_canary_that_fails_in_the_same_way_holds_its_tenant_back_and_no_other(
    starter: Starter, start_worker: StartWorker, database: Database
) -> None:
    await start_worker("--queue", "bulk").until_ready()
    assert (await starter(*BY_HAND)).code == 1
    letter = await until_letter(database)
    await put_letters(database, "broken", ["2013-05", "2013-06"], letter.message)
    await put_letters(database, "acme", ["2013-01", "2013-02"], "1 usage event is wrong.")
    said = await starter("dead-letters", "replay", "--job", JOB, "--canary", "--json")
    assert said.code == 1
    assert said.document["error"]["type"] == "CanaryFailed"
    outcomes = {each["workflow_id"]: (each["outcome"], each["canary"]) for each in
                said.document["letters"]}  # fmt: skip
    assert outcomes == {
        f"acme/{JOB}/2013-01": ("replayed", "succeeded"),
        f"acme/{JOB}/2013-02": ("replayed", None),
        ID: ("replayed", "failed again"),
        f"broken/{JOB}/2013-05": ("held back", None),
        f"broken/{JOB}/2013-06": ("held back", None),
    }
    left = (await starter("dead-letters", "list", "--tenant", "broken", "--json")).document
    assert [each["status"] for each in left] == ["open"] * 3
    assert {each["replays"] for each in left} == {0, 1}


@pytest.mark.usefixtures("airlines")
async def test_what_is_discarded_is_put_away_and_not_replayed_with_the_rest(
    database: Database, batch: Batch
) -> None:
    await put_letters(database, "acme", ["2013-01", "2013-02"], "1 usage event is wrong.")
    [listed] = await batch([Command(["dead-letters", "list", "--json"])])
    first, _ = (each["id"] for each in listed.document)
    discarded, again, rest, words = await batch(
        [
            Command(["dead-letters", "discard", first, "--by", "ada", "--json"]),
            Command(["dead-letters", "discard", first, "--json"]),
            Command(["dead-letters", "replay", "--tenant", "acme", "--json"]),
            Command(["dead-letters", "show", first]),
        ]
    )
    assert (discarded.code, discarded.document["discarded"]) == (0, 1)
    assert (again.code, again.document["discarded"]) == (0, 0)
    assert (rest.code, rest.document["replayed"]) == (0, 1)
    assert "by ada" in words.out
    assert '{"period": "2013-0' in words.out


@pytest.mark.usefixtures("airlines")
async def test_a_letter_that_cannot_be_read_is_listed_shown_refused_and_discarded(
    database: Database, database_urls: DatabaseUrls, batch: Batch
) -> None:
    """Beside a letter that can be replayed."""
    take_walls_away(database_urls)
    await put_letters(database, "acme", ["2013-01", "2013-02"], "1 usage event is wrong.")
    hostile = """('{"period": ' || repeat('9', 4500) || '}')::jsonb"""
    with connect(database_urls.superuser) as superuser:
        superuser.execute(
            f"update tenancy.outbox_messages set payload = {hostile} where key = '2013-01';"
            "update tenancy.dead_letters set failed_at = 'infinity' where workflow_id like "
            "'%/2013-01'"
        )
    await insert(database, "sleepy", key="'old'", scheduled_at="'4713-01-01 BC'")
    relay: dict[str, str | None] = {"RELAY_DATABASE_URL": database_urls.relay}
    listed, backlog, explained = await batch(
        [
            Command(["dead-letters", "list", "--json"]),
            Command(["outbox", "list", "--json"], relay),
            Command(["explain", f"acme/{JOB}/2013-01", "--json"]),
        ]
    )
    ids = {each["workflow_id"].rpartition("/")[2]: each["id"] for each in listed.document}
    assert set(ids) == {"2013-01", "2013-02"}
    assert [each["tenant_id"] for each in backlog.document] == ["sleepy"]
    assert explained.document["message"]["status"] == "dead_letter"
    shown, words, one, some, gone = await batch(
        [
            Command(["dead-letters", "show", ids["2013-01"], "--json"]),
            Command(["dead-letters", "show", ids["2013-01"]]),
            Command(["dead-letters", "replay", ids["2013-01"], "--json"]),
            Command(["dead-letters", "replay", "--tenant", "acme", "--json"]),
            Command(["dead-letters", "discard", ids["2013-01"], "--json"]),
        ]
    )
    assert shown.document["input"].startswith('{"period": 9999')
    assert "cannot be read: it has a number of more than 1,000 digits" in words.out
    assert (one.code, one.document["error"]["type"]) == (2, "PayloadUnreadable")
    assert (some.document["replayed"], some.document["refused"]) == (1, 1)
    assert (gone.code, gone.document["discarded"]) == (0, 1)


@pytest.mark.usefixtures("airlines")
async def test_a_failed_job_is_explained_by_its_letter_until_a_replay_has_succeeded(
    starter: Starter,
    start_worker: StartWorker,
    database: Database,
    database_urls: DatabaseUrls,
    tenants: Tenants,
) -> None:
    await start_worker("--queue", "bulk").until_ready()
    relay = start_worker("--relay", RELAY_DATABASE_URL=database_urls.relay)
    await relay.until_ready()
    assert (await starter(*BY_OUTBOX)).code == 0
    letter = await until_letter(database)
    advice = f"starter.py dead-letters replay {letter.id}"
    failed = await starter("explain", ID)
    assert f"what to do   {advice}\n" in failed.out
    assert f"dead letter  {letter.id}, open" in failed.out
    assert "outbox" not in failed.out  # the message only keeps the input
    again = await starter("dead-letters", "replay", str(letter.id), "--wait")
    assert again.code == 1
    assert "1 dead letter: 1 replayed, 1 failed again." in again.out
    assert f"\nReplayFailed: 1 replay failed. The first, of {ID}: UsageNot" in again.err
    await tenants.set_status("broken", TenantStatus.SUSPENDED)
    suspended = await starter("explain", ID, "--json")
    first, second = suspended.document["what_to_do"]
    assert first.startswith("First: TenantSuspended: broken is suspended since")
    assert second == f"{advice} runs it again, for broken."
    await tenants.set_status("broken", TenantStatus.ACTIVE)
    await mend(database, tenants)
    done = await starter("dead-letters", "replay", str(letter.id), "--wait", "--json")
    assert (done.code, done.document["letters"][0]["ended"]) == (0, "succeeded")
    explained = await starter("explain", ID, "--json")
    assert explained.document["what_to_do"] == []
    assert explained.document["dead_letter"]["status"] == "resolved"
    forgotten = await starter("explain", ID, TEMPORAL_NAMESPACE="default")
    assert "dead letter  " + str(letter.id) + ", resolved " in forgotten.out
    assert "replay" not in forgotten.out


@pytest.mark.usefixtures("airlines")
async def test_a_list_without_letters_says_so_and_a_mistyped_filter_is_refused(
    database: Database, batch: Batch
) -> None:
    await put_letters(database, "acme", ["2013-01"], "1 usage event is wrong.")
    asked = {
        "list --status resolved": (0, "No resolved dead letters.\n"),
        "list --tenant sleepy": (0, "No dead letter matches.\n"),
        "list --tenant acm": (2, 'TenantUnknown: there is no tenant acm. Did you mean "acme"?'),
        "list --job biling.cycle": (
            2,
            "UnknownJob: 'biling.cycle' is not a job. Did you mean \"billing.cycle\"?",
        ),
        "replay --tenant acm": (2, "TenantUnknown: there is no tenant acm."),
        "discard --job biling.cycle": (2, "UnknownJob: 'biling.cycle' is not a job."),
        "replay --job gone.job --status open": (2, "UnknownJob: 'gone.job' is not a job."),
    }
    said = await batch([Command(["dead-letters", *line.split()]) for line in asked])
    for line, each in zip(asked, said, strict=True):
        code, sentence = asked[line]
        assert (each.code, (each.out or each.err)[: len(sentence)]) == (code, sentence)


NOBODY = "0198a1b2-0000-7000-8000-00000000000a"


async def test_what_is_not_meant_for_sure_is_refused(batch: Batch) -> None:
    refused = {
        "replay": "FilterMissing",
        "replay --status open": "FilterMissing",
        "replay --canary": "FilterMissing",
        "discard": "FilterMissing",
        f"discard {NOBODY}": "DeadLetterUnknown",
        f"replay {NOBODY}": "DeadLetterUnknown",
        f"show {NOBODY}": "DeadLetterUnknown",
        "show 17": "UsageError",
        "replay --older-than soon": "UsageError",
        "replay --tenant u.a": "TenantInvalid",
        "list --status lost": "UsageError",
        f"replay {NOBODY} --tenant acme": "DeadLetterUnknown",
        f"show {NOBODY} --tenant u.a": "TenantInvalid",
        f"replay {NOBODY} --job {JOB}": "UsageError",
        f"replay {NOBODY} --status open": "UsageError",
    }
    said = await batch([Command(["dead-letters", *line.split(), "--json"]) for line in refused])
    assert {each.code for each in said} == {2}
    found = [each.document["error"]["type"] for each in said]
    assert dict(zip(refused, found, strict=True)) == refused


@pytest.mark.usefixtures("airlines")
async def test_an_id_that_two_tenants_have_is_refused_until_it_is_said_whose(
    database: Database, database_urls: DatabaseUrls, batch: Batch
) -> None:
    for tenant in ("acme", "sleepy"):
        await put_letters(database, tenant, ["2013-01"], "1 usage event is wrong.")
    with connect(database_urls.superuser) as superuser:
        superuser.execute("update tenancy.dead_letters set id = %s", [NOBODY])
    commands = [("show",), ("replay",), ("discard", "--by", "ada")]
    named = [["dead-letters", *words, NOBODY] for words in commands]
    refused = await batch([Command([*words, "--json"]) for words in named])
    assert {(each.code, each.document["error"]["type"]) for each in refused} == {
        (2, "DeadLetterAmbiguous")
    }
    assert all("--tenant" in each.document["error"]["message"] for each in refused)
    ours = [Command([*words, "--tenant", "acme", "--json"]) for words in named]
    shown, replayed, discarded = await batch(ours)
    assert (shown.document["tenant_id"], shown.document["status"]) == ("acme", "open")
    assert [each["tenant_id"] for each in replayed.document["letters"]] == ["acme"]
    assert (discarded.code, discarded.document["matched"]) == (0, 1)
    async with database.platform_session("test") as session:
        found = await letters.latest(session, Filter(tenant_id="sleepy"), limit=2)
    assert [(each.status, each.replays) for each in found] == [("open", 0)]
