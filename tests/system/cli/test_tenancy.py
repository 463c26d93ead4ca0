"""The command tenancy, in the application of the docs, which knows nothing of this repository."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.starter import Said
from tests.fixtures.warm_programs import WarmPrograms
from tests.fixtures.worker_process import ROOT

pytestmark = pytest.mark.schedules

PATIENCE: Final = 180.0  # seconds until an expected event must have happened
LOOK: Final = 0.2  # seconds between polls
PAGE = ROOT / "docs" / "how-to" / "operate-your-application.md"
SAMPLE = re.compile(r"^```python\n(# (\S+\.py)\n.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = '[tool.temporal-tenancy]\napplication = "myapp.tenancy:application"\n'
OWN_DIRECTORY = """
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.cli import Application
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from myapp import jobs


def plugin(database: Database) -> TenancyPlugin:
    directory = InMemoryDirectory([make_tenant("acme"), make_tenant("globex")])
    return TenancyPlugin(directory=directory, database=database)


def application() -> Application:
    return Application.from_environment(
        plugin, tenant="TENANT_URL", platform="PLATFORM_URL", relay="RELAY_URL"
    )
"""

SQL_DIRECTORY = """
from temporal_tenancy import Database, SqlTenantDirectory, TenancyPlugin
from temporal_tenancy.cli import Application
from myapp import jobs


def plugin(database: Database) -> TenancyPlugin:
    directory = SqlTenantDirectory(database, "select id from customers")
    return TenancyPlugin(directory=directory, database=database)


def application() -> Application:
    return Application.from_environment(
        plugin, tenant="TENANT_URL", platform="PLATFORM_URL", relay="RELAY_URL"
    )
"""


class Stranger:
    """A folder with an application, and what its operators call there."""

    def __init__(self, folder: Path, environ: dict[str, str], programs: WarmPrograms) -> None:
        self.folder, self.environ, self._programs = folder, environ, programs

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    async def tenancy(self, *arguments: str) -> Said:
        command = ("-m", "temporal_tenancy", *arguments)
        ended = await asyncio.to_thread(self._programs.run, command, self.environ, self.folder)
        said = Said(*ended)
        assert "starter.py" not in said.out + said.err
        assert "Traceback" not in said.err
        return said

    async def document(self, *arguments: str, code: int = 0) -> Any:
        said = await self.tenancy(*arguments, "--json")
        assert said.code == code, said
        return said.document


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPrograms]:
    """Starts commands that know the library alone."""
    programs = WarmPrograms(tmp_path_factory.mktemp("library-programs"), "library")
    yield programs
    programs.stop()


@pytest.fixture
def stranger(
    tmp_path: Path,
    temporal: TemporalDevServer,
    empty_urls: DatabaseUrls,
    bare_namespace: str,
    programs: WarmPrograms,
) -> Stranger:
    """The application of the docs, on a database and a namespace in which nothing is set up."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": bare_namespace,
        "DATABASE_URL": empty_urls.owner,
        "TENANT_DATABASE_URL": empty_urls.tenant,
        "PLATFORM_DATABASE_URL": empty_urls.platform,
        "RELAY_DATABASE_URL": empty_urls.relay,
    }
    made = Stranger(tmp_path, environ, programs)
    for body, file in SAMPLE.findall(PAGE.read_text()):
        made.write(file, body)
    made.write("pyproject.toml", TABLE)
    return made


StartProcess = Callable[..., OwnedProcess]


@pytest.fixture
def start(stranger: Stranger) -> Iterator[StartProcess]:
    """Starts the sample's worker or relay; kills it after the test."""
    started: list[OwnedProcess] = []

    def start(name: str, *options: str) -> OwnedProcess:
        # It has no credentials of the owner.
        environ = {**stranger.environ, "PYTHONPATH": f"{stranger.folder}:{ROOT}"}
        del environ["DATABASE_URL"]
        application = ("--app", "myapp.tenancy:application")
        ready = ("--ready-file", str(stranger.folder / f"{name}.ready"))
        command = [sys.executable, "-m", "temporal_tenancy", *application, name, *ready, *options]
        log = stranger.folder / f"{name}.log"
        started.append(OwnedProcess(command, log=log, environ=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def tables(url: str) -> set[str]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where schemaname not in ('pg_catalog', "
            "'information_schema')"
        ).fetchall()
    return {name for (name,) in rows}


async def test_a_strangers_operators_set_up_run_follow_and_account_for_jobs(
    stranger: Stranger, start: StartProcess, empty_urls: DatabaseUrls
) -> None:
    assert (await stranger.document("migrate"))["migrated"] is True
    assert {"tenants", "ledger", "dead_letters", "outbox_messages"} <= tables(empty_urls.owner)
    applied = await stranger.document("schedules", "apply")
    assert applied["search_attributes_registered"] == ["TenantId", "Job"]
    assert {s["job"]: s["done"] for s in applied["schedules"]} == {
        "greeting.write": "created",
        "dead_letters.sweep": "created",
        "ticks.reconcile": "created",
        "suspensions.release": "created",
    }
    for name in ("acme", "globex"):
        await stranger.document("tenants", "add", name)

    await stranger.document("schedules", "pause", "dead_letters.sweep")
    doctor = await stranger.document("doctor", code=1)
    checks = {check["name"]: check for check in doctor["checks"]}
    bad = {name for name, check in checks.items() if check["verdict"] not in ("ok", "skipped")}
    assert bad == {"relay", "workers of greetings", "schedules", "platform jobs", "open rights"}
    message = checks["platform jobs"]["message"]
    assert message.startswith(
        'paused: dead_letters.sweep. "tenancy schedules resume dead_letters.sweep" starts them '
        'again. No worker serves the queue "greetings". '
    )
    await stranger.document("schedules", "resume", "dead_letters.sweep")

    worker = start("worker", "--health-port", "0")
    run = ("run", "greeting.write", "--key", "2013-04", "--wait")
    done = await stranger.document(*run, "--tenant", "acme")
    assert done["result"] == "acme greets all"
    failed = await stranger.tenancy(*run, "--tenant", "globex", "--input", '{"name": "nobody"}')
    begun, error = failed.err.splitlines()
    assert begun.startswith("globex/greeting.write/")
    assert begun.endswith(" has started.")
    assert (failed.code, error) == (1, "NobodyThere: there is nobody to greet.")
    explained = await stranger.tenancy("explain", "globex/greeting.write/2013-04")
    [letter] = await stranger.document("dead-letters", "list")
    assert f"  tenancy dead-letters replay {letter['id']}\n" in explained.out
    assert (letter["tenant_id"], letter["error_type"]) == ("globex", "NobodyThere")
    fan_out = await stranger.document("fan-out", "greeting.write", "--tick", "2013-04", "--wait")
    assert [fan_out[name] for name in ("planned", "succeeded", "already")] == [2, 1, 1]
    shown = await stranger.document("ticks", "show", "greeting.write")
    assert [tenant["state"] for tenant in shown["tenants"]] == ["succeeded", "succeeded"]
    await stranger.document("enqueue", "greeting.write", "--tenant", "acme", "--key", "2013-05")
    [waiting] = await stranger.document("outbox", "list")
    assert (waiting["tenant_id"], waiting["pending"]) == ("acme", 1)

    relay = start("relay")
    again = ("run", "greeting.write", "--key", "2013-05", "--wait", "--tenant", "acme")
    async with asyncio.timeout(PATIENCE):
        # Another process's work sends no event here.
        while any(each["pending"] for each in await stranger.document("outbox", "list")):  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
    assert (await stranger.document(*again))["started"] is False
    ready = json.loads((stranger.folder / "worker.ready").read_text())
    assert (ready["pid"], ready["queues"]) == (worker.pid, ["greetings"])
    assert (await asyncio.to_thread(httpx.get, f"{ready['health']}/readyz")).status_code == 200
    for process in (worker, relay):
        os.kill(process.pid, signal.SIGTERM)
    assert [await asyncio.to_thread(each.wait, PATIENCE) for each in (worker, relay)] == [0, 0]
    lines = [json.loads(line) for line in (stranger.folder / "worker.log").read_text().splitlines()]
    events = [line["event"] for line in lines if line["event"].startswith("worker.")]
    assert events == [
        f"worker.{what}" for what in ("starting", "started", "ready", "stopping", "stopped")
    ]
    assert {line["worker"] for line in lines} == {ready["identity"]}
    greeted = [line for line in lines if line.get("tenant_id") == "globex" and "exception" in line]
    assert {line["job"] for line in greeted} <= {"greeting.write"}


OWN: Final = """
from temporal_tenancy.cli import Application
from myapp import jobs
from myapp.tenancy import plugin


def made(**given):
    names = {{"tenant": "TENANT_DATABASE_URL", "platform": "PLATFORM_DATABASE_URL"}}
    return lambda: Application.from_environment(plugin, **names, **given)


application = made({given})
"""


async def test_a_worker_or_relay_that_cannot_start_says_why_in_one_sentence(
    stranger: Stranger, database_urls: DatabaseUrls
) -> None:
    unmigrated = stranger.environ
    stranger.environ = unmigrated | {
        "TENANT_DATABASE_URL": database_urls.tenant,
        "PLATFORM_DATABASE_URL": database_urls.platform,
        "RELAY_DATABASE_URL": database_urls.relay,
    }

    async def refused(*words: str, code: int, says: str) -> None:
        said = await stranger.tenancy(*words)
        if "SettingMissing" in says:
            assert '"event"' not in said.err, said  # it has begun nothing
        logged = [line for line in said.err.splitlines() if not line.startswith("{")]
        assert (said.code, said.out, len(logged)) == (code, "", 1), said
        assert re.search(says, logged[0]), logged

    await refused("worker", "--queue", "no", code=2, says=r"UsageError: .*--queue.*are greetings\.")
    await refused(
        "worker", code=3, says='SearchAttributesMissing: .* "tenancy schedules apply" does so, or'
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        for name in ("worker", "relay"):
            await refused(name, "--health-port", port, code=3, says=f"PortInUse: port {port} on ")
    for given, code, says in (
        ("workflows=[]", 2, "ConfigurationError: the job greeting.write is not among .* Add Write"),
        ("activities=[]", 2, "ConfigurationError: the activity greet is not among "),
        ('queues=["a"]', 2, 'the queue "greetings", which is not among the .* queues \\(a\\)'),
        ("relay=None", 3, "SettingMissing: the URL of the relay's role is not set"),
    ):
        stranger.write("own.py", OWN.format(given=given))
        name = "relay" if given.startswith("relay") else "worker"
        await refused("--app", "own:application", name, code=code, says=says)
    stranger.environ["TEMPORAL_ADDRESS"] = "127.0.0.1:1"
    for name in ("worker", "relay"):
        await refused(name, code=3, says="NotReachable: the Temporal server 127.0.0.1:1 does not ")
    stranger.environ = unmigrated
    del stranger.environ["RELAY_DATABASE_URL"]
    await refused("relay", code=3, says=r"SettingMissing: RELAY_DATABASE_URL is not set\.$")
    await refused("worker", code=3, says="MigrationsBehind: |NotReachable: ")


async def test_a_doctor_before_migrate_says_what_makes_the_roles(stranger: Stranger) -> None:
    url = stranger.environ["TENANT_DATABASE_URL"]
    stranger.environ["TENANT_DATABASE_URL"] = re.sub("//(.*?):.*@", r"//\1:unknown@", url)
    url = stranger.environ["RELAY_DATABASE_URL"]
    stranger.environ["RELAY_DATABASE_URL"] = f"{url.rpartition('/')[0]}/nowhere"
    checks = (await stranger.document("doctor", code=1))["checks"]
    messages = {check["name"]: check["message"] for check in checks}
    assert re.search(
        r'authentication failed .*\. Run "tenancy migrate", which makes the roles with the '
        r"passwords of the URLs\. Or correct TENANT_DATABASE_URL\.$",
        messages["role tenancy_tenant"],
    ), messages
    assert "Create the database, or correct its URL." in messages["role tenancy_relay"], messages
    del stranger.environ["DATABASE_URL"]
    refused = await stranger.tenancy("migrate")
    assert (refused.code, refused.err) == (3, "SettingMissing: DATABASE_URL is not set.\n")


async def test_the_librarys_tables_are_made_without_any_application(
    stranger: Stranger, empty_urls: DatabaseUrls
) -> None:
    stranger.write("pyproject.toml", "")
    stranger.environ = {name: stranger.environ[name] for name in ("PATH", "PYTHONPATH")}
    alone = await stranger.tenancy("migrate")
    assert alone.code == 2
    assert alone.err.startswith("ApplicationMissing: no application is named. ")
    assert alone.err.endswith("with --database-url.\n")
    made = await stranger.tenancy("migrate", "--database-url", empty_urls.owner)
    assert made.out.startswith("The database is migrated.\nA role whose URL you do not give keeps ")
    assert {"tenants", "ledger", "dead_letters", "outbox_messages"} <= tables(empty_urls.owner)
    [again, wrong] = [
        await stranger.tenancy("migrate", "--database-url", empty_urls.owner, "--tenant-url", url)
        for url in (empty_urls.tenant, empty_urls.platform)
    ]
    assert (again.code, again.out.splitlines()[0]) == (0, "The database was up to date.")
    assert (wrong.code, wrong.err[:20]) == (2, "ConfigurationError: ")


async def test_an_application_with_a_directory_of_its_own_keeps_its_tenants_there(
    stranger: Stranger, database_urls: DatabaseUrls, namespace: str
) -> None:
    stranger.write("own.py", OWN_DIRECTORY)
    stranger.environ |= {
        "TENANCY_APP": "own:application",
        "TEMPORAL_NAMESPACE": namespace,
        "TENANT_URL": database_urls.tenant,
        "PLATFORM_URL": database_urls.platform,
        "RELAY_URL": database_urls.relay,
    }
    listed = await stranger.document("tenants", "list")
    assert [tenant["id"] for tenant in listed] == ["acme", "globex"]
    added = await stranger.tenancy("tenants", "add", "initech")
    assert added.code == 2
    assert added.err.startswith(
        "TenantsElsewhere: this application's tenants are in its own directory, InMemoryDirectory, "
        'and are added there. "tenancy tenants list" '
    )
    started = await stranger.document("run", "greeting.write", "--tenant", "acme")
    assert started["started"] is True
    await stranger.document("enqueue", "greeting.write", "--tenant", "globex", "--key", "2013-05")
    assert (await stranger.document("outbox", "cap", "globex", "2"))["concurrency_cap"] == 2
    preview = await stranger.tenancy("schedules", "preview")
    assert (preview.code, preview.out) == (0, "No schedule starts jobs of tenants.\n")


OF_UNKNOWN_AGE: Final = """InMemoryDirectory([
        make_tenant("org_01HX", TenantStatus.SUSPENDED, status_since=UNKNOWN_SINCE)
    ])"""


async def test_no_hint_names_a_command_that_a_directory_of_its_own_refuses(
    stranger: Stranger, database_urls: DatabaseUrls, namespace: str
) -> None:
    own = re.sub(r"InMemoryDirectory\(\[.*\]\)", OF_UNKNOWN_AGE, OWN_DIRECTORY)
    names = "from temporal_tenancy.core.directory import UNKNOWN_SINCE, TenantStatus\n"
    stranger.write("own.py", names + own)
    stranger.environ |= {
        "TENANCY_APP": "own:application",
        "TEMPORAL_NAMESPACE": namespace,
        "TENANT_URL": database_urls.tenant,
        "PLATFORM_URL": database_urls.platform,
        "RELAY_URL": database_urls.relay,
    }
    job = ("greeting.write", "--tenant", "org_01HX", "--key", "2013-05")
    said = [
        await stranger.tenancy("tenants", "list"),
        await stranger.tenancy("tenants", "show", "org_01HX"),
        await stranger.tenancy("run", *job),
    ]
    assert [each.code for each in said] == [0, 0, 2]
    assert said[2].err == (
        "TenantSuspended: org_01HX is suspended. Resume it to run its jobs. Its status is in the "
        "application's own directory.\n"
    )
    assert (await stranger.tenancy("enqueue", *job)).code == 0
    said += [
        await stranger.tenancy("outbox", "list"),
        await stranger.tenancy("explain", "org_01HX/greeting.write/2013-05"),
        await stranger.tenancy("fan-out", "greeting.write", "--tick", "2013-06"),
        await stranger.tenancy("ticks", "show", "greeting.write"),
    ]
    assert "org_01HX: it is suspended. Its status is in the " in said[4].out.replace("\n", " ")
    for each in said:
        assert "1970" not in each.out + each.err
        assert "tenants resume" not in each.out + each.err
    [document] = await stranger.document("tenants", "list")
    assert document["status_since"] is None
    for mistyped in ("org_01hx", "ORG_01HX", "OrG_01hX"):
        asked = (["run", "greeting.write", "--tenant", mistyped], ["tenants", "show", mistyped])
        for words in asked:
            refused = await stranger.tenancy(*words)
            assert refused.err.startswith(
                f'TenantUnknown: there is no tenant {mistyped}. Did you mean "org_01HX"? '
                "It differs only by case."
            ), refused
    explained = await stranger.tenancy("explain", "org_01hx/greeting.write/2013-05")
    assert 'Did you mean "org_01HX/greeting.write/2013-05"?' in explained.err, explained


def test_the_console_script_is_the_module() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"tenancy": "temporal_tenancy.__main__:main"}
    done = subprocess.run(
        [sys.executable, "-c", "from temporal_tenancy.__main__ import main; main()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        'UsageError: No command is named. "tenancy --help" shows what it takes.\n',
    )
    assert "Usage: tenancy" in done.stdout


async def test_a_login_that_may_not_read_the_directory_is_named_before_messages_wait(
    stranger: Stranger, database_urls: DatabaseUrls, namespace: str
) -> None:
    stranger.write("own.py", SQL_DIRECTORY)
    stranger.environ |= {
        "TENANCY_APP": "own:application",
        "TEMPORAL_NAMESPACE": namespace,
        "TENANT_URL": database_urls.tenant,
        "PLATFORM_URL": database_urls.platform,
        "RELAY_URL": database_urls.relay,
    }

    async def directory() -> tuple[str, str]:
        checks = (await stranger.document("doctor", code=1))["checks"]
        [found] = [check for check in checks if check["name"] == "tenant directory"]
        return found["verdict"], found["message"]

    def sentence(role: str) -> str:
        return (
            f"{role} may not read what the tenant directory's query reads: permission denied for "
            "table customers. Grant it select."
        )

    with connect(database_urls.owner) as owner:
        assert (await directory())[0] == "failed"  # there is no such table
        owner.execute(b"create table customers (id text primary key)")
        owner.execute(b"insert into customers values ('acme')")
        owner.execute(b"grant select on customers to tenancy_platform")
        assert await directory() == ("failed", sentence("tenancy_relay"))
        refused = await stranger.tenancy("relay")
        assert refused.code == 3
        assert refused.err.splitlines()[-1] == f"DirectoryUnreadable: {sentence('tenancy_relay')}"
        await stranger.document("enqueue", "greeting.write", "--tenant", "acme", "--key", "2013-05")
        explained = await stranger.document("explain", "acme/greeting.write/2013-05")
        assert explained["waiting_for"] == [f"No relay can take it: {sentence('tenancy_relay')}"]
        owner.execute(b"grant select on customers to tenancy_relay")
        verdict = "tenancy_platform and tenancy_relay can read it."
        assert await directory() == ("ok", verdict)
        explained = await stranger.document("explain", "acme/greeting.write/2013-05")
        assert explained["waiting_for"][0].startswith("It waits for a relay")
        owner.execute(b"revoke select on customers from tenancy_platform")
        assert await directory() == ("failed", sentence("tenancy_platform"))
        refused = await stranger.tenancy("worker")
        assert refused.code == 3
        last = refused.err.splitlines()[-1]
        assert last == f"DirectoryUnreadable: {sentence('tenancy_platform')}"
