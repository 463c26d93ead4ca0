"""`migrate`, `migrate --harden` and what `doctor` says of a database that is open to every role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from temporalio.client import Client

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.cli import (
    Application,
    Login,
    Program,
    command_line,
    run,
)
from temporal_tenancy.cli import reaching as library_reaching
from temporal_tenancy.postgres.database import Database
from tests.fixtures.strangers import OTHER_APP, Stranger, named, strangers_database


@pytest.fixture
def stranger(postgres: EmbeddedPostgres) -> Iterator[Stranger]:
    """A database that is open to every role, beside another application."""
    with strangers_database(postgres) as stranger:
        yield stranger


def program_of(stranger: Stranger) -> Program:
    """The command line of an application that has named its roles."""

    async def connect(database: Database | None) -> Client:
        with library_reaching(connecting=True):
            return await Client.connect("127.0.0.1:1")

    installation = named("cli")
    tenant, platform, relay = map(stranger.url, installation.roles)
    application = Application(
        connect=connect,
        database=lambda: Database(tenant_url=tenant, platform_url=platform),
        tenant=Login("TENANT_URL", tenant),
        platform=Login("PLATFORM_URL", platform),
        relay=Login("RELAY_URL", relay),
        owner=Login("OWNER_URL", stranger.urls.owner),
        installation=installation,
    )
    return Program(load=lambda: application)


def test_another_schema_is_said_and_moved_to_on_request(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    program = program_of(stranger)

    def answer(*arguments: str, code: int = 0) -> Any:
        assert run(command_line(program), program, [*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    answer("migrate")
    before = stranger.state()
    refused = answer("migrate", "--schema", "jobs", code=2)["error"]
    assert refused["type"] == "InstallationElsewhere"
    assert "in the schema tenancy of this database, and not in jobs" in refused["message"]
    assert '"tenancy migrate --move" does so; with --beside' in refused["message"]
    assert answer("migrate", "--beside", "--move", code=2)["error"]["type"] == "UsageError"
    assert stranger.state() == before

    moved = answer("migrate", "--move", "--schema", "jobs")
    assert (moved["moved"], moved["schema"]) == (True, "jobs")
    assert "tenancy.tenants" in moved["views"]
    checks = {each["name"]: each for each in answer("doctor", code=1)["checks"]}
    assert checks["migrations"]["verdict"] == "ok"  # the application still names tenancy
    finished = answer("migrate", "--move", "--finish", "--schema", "jobs")
    assert finished["dropped"] == moved["views"]
    checks = {each["name"]: each for each in answer("doctor", code=1)["checks"]}
    assert checks["migrations"]["verdict"] == "failed"
    assert (
        "in the schema jobs of this database, and not in tenancy"
        in (checks["migrations"]["message"])
    )
    assert checks["row-level security"]["verdict"] == "skipped"
    assert answer("migrate", "--beside", "--schema", "second")["migrated"] is True


def test_a_wrong_url_is_named_by_where_it_is_set(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    installation = named("cli")
    program = program_of(stranger)

    def refusal(*arguments: str, code: int = 2) -> str:
        assert run(command_line(program), program, ["migrate", *arguments]) == code
        return capsys.readouterr().err

    wrong = stranger.url("somebody")
    assert "ConfigurationError: --tenant-url: this database URL must have the role" in refusal(
        "--tenant-url", wrong
    )
    assert "--platform-url: a database URL has the form" in refusal("--platform-url", "mysql://x")
    away = stranger.urls.owner.replace(stranger.name, "nowhere")
    assert "NotReachable: --database-url: the database" in refusal("--database-url", away, code=3)
    without = stranger.url(installation.roles.relay, "")
    assert "--relay-url: the database URL of" in refusal("--relay-url", without)
    assert "has no password" in refusal("--relay-url", without)

    application = program.application
    for changed, setting in (
        (replace(application, tenant=Login("TENANT_URL", wrong)), "TENANT_URL"),
        (replace(application, relay=Login("RELAY_URL", wrong)), "RELAY_URL"),
    ):
        other = Program(load=lambda changed=changed: changed)  # type: ignore[misc]
        assert run(command_line(other), other, ["migrate"]) == 2
        assert f"{setting}: this database URL must have the role" in capsys.readouterr().err


def test_hardening_is_said_first_and_done_on_request(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    program = program_of(stranger)

    def answer(*arguments: str, code: int = 0) -> Any:
        assert run(command_line(program), program, [*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    def doctors() -> dict[str, tuple[str, str]]:
        checks = answer("doctor", code=1)["checks"]  # there is no Temporal server
        return {each["name"]: (each["verdict"], each["message"]) for each in checks}

    before = stranger.state()
    shown = answer("migrate", "--harden")
    assert shown["hardened"] is False
    assert stranger.state() == before
    assert run(command_line(program), program, ["migrate", "--harden"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"in no other way: .*\b{OTHER_APP}\b", text)
    assert '"tenancy migrate --harden --yes" migrates and takes it away.' in text
    assert run(command_line(program), program, ["migrate", "--yes"]) == 2
    capsys.readouterr()

    assert answer("migrate")["migrated"] is True
    assert stranger.other_app_works()
    checks = doctors()
    for role in named("cli").roles:
        assert checks[f"role {role}"][0] == "ok"
    assert checks["row-level security"][0] == "ok"
    verdict, message = checks["open rights"]
    assert verdict == "warning"
    first, *findings, _hint = message.splitlines()
    assert first == "row-level security holds, but:"
    assert all(finding.startswith("public-grant: every role of the") for finding in findings)
    [connecting] = [finding for finding in findings if "REVOKE CONNECT ON" in finding]
    others = connecting.partition("in no other way: ")[2].partition(". Run ")[0].split(", ")
    assert OTHER_APP in others
    assert not {*named("cli").roles} & {*others}
    assert message.endswith('"tenancy migrate --harden" lists what every role has and can lose.')

    done = answer("migrate", "--harden", "--yes")
    assert (done["hardened"], done["migrated"]) == (True, False)
    assert [each["revoke"] for each in done["open"]] == [each["revoke"] for each in shown["open"]]
    assert doctors()["open rights"][0] == "ok"
    assert answer("migrate", "--harden") == {"hardened": False, "open": []}
