"""`migrate`, `migrate --harden` and what `doctor` says of a database that is open to every role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
    assert "every role of the server has a right on database" in message
    assert message.endswith('"tenancy migrate --harden" lists what every role has and can lose.')

    done = answer("migrate", "--harden", "--yes")
    assert (done["hardened"], done["migrated"]) == (True, False)
    assert [each["revoke"] for each in done["open"]] == [each["revoke"] for each in shown["open"]]
    assert doctors()["open rights"][0] == "ok"
    assert answer("migrate", "--harden") == {"hardened": False, "open": []}
