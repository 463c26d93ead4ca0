"""A command loads only what it needs, so that it starts quickly: modules are looked at, not time.

Every command of starter.py is in one of these tables, with arguments with which it comes to its
end, or at least to what it asks the servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.worker_process import ROOT
from tests.held_names.commands import each_command

pytestmark = pytest.mark.schedules

SOME_ID = str(uuid4())  # of nothing

# By the command's words: its arguments. {here} is a folder of the test's own.
NO_JOBS: Mapping[str, str] = {
    "settings": "",
    "tenants add": "globex --plan enterprise",
    "tenants list": "",
    "tenants show": "acme",
    "tenants set": "acme --name Acme",
    "plans list": "",
    "plans set": "free --share 20%",
    "stores list": "",
    "stores show": "t_none",
    "stores drain": "t_none",
    "stores undrain": "t_none",
    "api-keys create": "--tenant acme --name x",
    "api-keys list": "--tenant acme",
    "api-keys revoke": f"{SOME_ID} --tenant acme",
    "outbox list": "",
    "outbox pause": "acme",
    "outbox resume": "acme",
    "outbox cancel": f"{SOME_ID} --tenant acme",
    "outbox reschedule": f"{SOME_ID} --tenant acme --at 2030-01-01T00:00Z",
    "ticks list": "",
    "dead-letters list": "",
    "dead-letters discard": SOME_ID,
    "imports list": "--tenant acme",
    "exports list": "--tenant acme",
    "exports show": f"{SOME_ID} --tenant acme",
    "exports download": f"{SOME_ID} --tenant acme --to {{here}}/file",
    "reports list": "--tenant acme",
    "reports show": f"{SOME_ID} --tenant acme",
    "integrations list": "--tenant acme",
    "integrations remove": "crm --tenant acme",
    "search": "ann --tenant acme",
    "usage": "--tenant acme",
}
"""They ask only the database, and no job."""
JOBS: Mapping[str, str] = {
    "jobs": "",
    "enqueue": "search.index --tenant acme --input {{}} --key x",
    "tenants offboard": "gone --yes",
    "ticks show": "billing.cycle --tick 2013-04",
    "schedules preview": "",
}
"""They ask only the database, about jobs."""
TEMPORAL: Mapping[str, str] = {
    "run": "billing.cycle --tenant acme --key 2013-04",
    "fan-out": "analytics.aggregate --tick 2013-04",
    "explain": "acme/billing.cycle/2013-04",
    "schedules apply": "",
    "schedules list": "",
    "schedules pause": "billing.cycle",
    "schedules resume": "billing.cycle",
    "schedules trigger": "billing.cycle",
    "schedules backfill": "billing.cycle --from 2013-05-01 --to 2013-05-01",
    "tenants suspend": "acme",
    "tenants resume": "acme",
    "ticks missed": "",
    "ticks catch-up": "billing.cycle --tick 2013-04",
    "outbox cap": "acme 3",
    "top": "",
    "dead-letters show": SOME_ID,
    "dead-letters replay": SOME_ID,
    "imports start": "{here}/contacts.csv --tenant acme",
    "imports show": f"{SOME_ID} --tenant acme",
    "imports errors": f"{SOME_ID} --tenant acme --to {{here}}/rejected.csv",
    "imports cancel": f"{SOME_ID} --tenant acme",
    "exports start": "contacts --tenant acme",
    "reports start": "usage.by_route --tenant acme "
    '--input {{"first":"2013-04-01","last":"2013-04-30"}}',
    "integrations sync": "crm --tenant acme",
    "deployments list": "",
    "deployments ramp": "v2 --share 1%",
    "deployments promote": "v2",
    "deployments rollback": "v2",
}
"""They ask Temporal, most of them the database too."""
OTHERS = {
    "integrations set": "checks a URL with the HTTP client that will request it",
    "migrate": "runs Alembic's migrations",
    "stores add": "runs them in the store",
    "stores remove": "prepares and removes with one module",
    "doctor": "checks that the migrations have run, with Alembic",
}
"""They need what no other command does."""

SERVERS = {"temporalio", "sqlalchemy", "psycopg"}
NEVER = {
    *("aiosmtplib", "alembic", "fastapi", "httpx", "matplotlib", "numpy", "pyarrow", "redis"),
    *("starlette", "structlog", "uvicorn"),
}
JOBS_OWN = {
    *("activities", "limits", "temporal_tenancy.sdk.plugin", "temporalio.worker", "workflows"),
}


def below(names: Iterable[str], modules: Iterable[str]) -> set[str]:
    """Returns the names that are among the modules, or packages of them."""
    loaded = set(modules)
    return {name for name in names if name in loaded}


def run(
    commands: Sequence[Sequence[str]], environ: Mapping[str, str]
) -> list[tuple[int, list[str]]]:
    """Runs commands in one new process; returns each one's exit code, and what it has loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.cli.loads", json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    found: list[tuple[int, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def words(table: Mapping[str, str], here: Path) -> list[list[str]]:
    """Returns the commands of a table, each as words."""
    return [
        [*command.split(), *(word.format(here=here) for word in arguments.split())]
        for command, arguments in table.items()
    ]


@pytest.fixture
async def environ(
    tenants: Tenants, starter_environ: dict[str, str], database_urls: DatabaseUrls, tmp_path: Path
) -> dict[str, str]:
    await tenants.add("acme", "Acme", plan="enterprise")
    await tenants.add("gone", "Gone", plan="enterprise")
    (tmp_path / "contacts.csv").write_text("email\nann@a.example\n")
    return {
        **starter_environ,
        "RELAY_DATABASE_URL": database_urls.relay,
        "STORAGE_URL": (tmp_path / "objects").as_uri(),
        "SECRETS_URL": tmp_path.as_uri(),
    }


def test_every_command_is_in_a_table() -> None:
    every = {command.removeprefix("starter.py ") for command, _ in each_command()}
    assert every == {*NO_JOBS, *JOBS, *TEMPORAL, *OTHERS}


def test_help_and_what_is_mistyped_load_no_server() -> None:
    groups = sorted({name.split()[0] for name in (*NO_JOBS, *TEMPORAL, *OTHERS)})
    commands = [["--help"], *([group, "--help"] for group in groups), ["run", "--tenannt"], ["x"]]
    for command, (_, modules) in zip(commands, run(commands, os.environ), strict=True):
        found = below({*SERVERS, *NEVER, "processes.cli.running_stack"}, modules)
        assert not found, f"{command} loads {found}"


@pytest.mark.parametrize(
    ("table", "banned"),
    [
        (NO_JOBS, NEVER | JOBS_OWN),
        (JOBS, NEVER),
        (TEMPORAL, NEVER),
    ],
    ids=["database", "jobs", "temporal"],
)
async def test_a_command_loads_nothing_that_it_does_not_use(
    table: Mapping[str, str], banned: set[str], environ: dict[str, str], tmp_path: Path
) -> None:
    commands = words(table, tmp_path)
    for command, (code, modules) in zip(
        commands, await asyncio.to_thread(run, commands, environ), strict=True
    ):
        found = below(banned, modules)
        assert not found, f"{command} loads {found}"
        assert code in (0, 1, 2), command  # and not 3: it has asked the servers
