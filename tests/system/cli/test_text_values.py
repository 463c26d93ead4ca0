"""A value that no database takes as text is refused in one sentence."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.cli import Application, Login, NotReachable, Program, command_line, run
from temporal_tenancy.postgres.database import Database


def program(urls: DatabaseUrls) -> Program:
    """An application that has the library's tables, and no Temporal."""

    async def connect(_: Database | None) -> Client:
        raise NotReachable("there is no Temporal server.")

    return Program(
        load=lambda: Application(
            connect=connect,
            database=lambda: Database(platform_url=urls.platform),
            tenant=Login("TENANT_URL", urls.tenant),
            platform=Login("PLATFORM_URL", urls.platform),
            relay=Login("RELAY_URL", urls.relay),
            owner=Login("OWNER_URL"),
        )
    )


@pytest.mark.parametrize("name", ["a\x00b", "a\udcffb"], ids=["NUL", "no UTF-8"])
def test_a_value_that_is_no_text_is_named_as_that(
    name: str, database_urls: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    made = program(database_urls)
    code = run(command_line(made), made, ["tenants", "add", "acme", "--name", name])
    assert (code, capsys.readouterr().err) == (
        2,
        "TextInvalid: a value has a NUL character, or bytes that are not UTF-8, which no database "
        "takes as text. Leave them out.\n",
    )
