"""Which commands the library's sentences get as hints."""

from __future__ import annotations

import io
import json
import logging
import uuid
from datetime import UTC, datetime

import pytest
from temporalio.client import Client

from processes.cli.program import PROGRAM
from processes.logs import handler
from saas.hints import summary_with_hint, with_hint
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli._failures import report
from temporal_tenancy.control_plane._api_keys import ApiKeys, ApiKeyUnknown
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.server_checks import ServerCheck, keep_fairness
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus, use_directory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.tenant_state import refusal, unknown
from temporal_tenancy.dead_letters.replaying import InputForgotten, replay
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.sdk.fairness import Fairness
from temporal_tenancy.stores._directory import no_secret_store
from temporal_tenancy.stores.preparation import NO_SECRETS
from temporal_tenancy.testing import make_tenant
from tests.fixtures.jobs import hops  # noqa: F401  # known once they are imported
from tests.library.dead_letters.test_dead_letter_recording import rows
from tests.library.dead_letters.test_dead_letter_replay import the_letter, written


def refused(status: TenantStatus, job: str = "echo.tell") -> str:
    error = refusal(make_tenant("acme", status), registry.get_or_raise(job))
    assert error is not None
    return error.sentence


OFF = ServerCheck(holds=False, message="", checked_at=datetime.now(UTC)).off_sentence


@pytest.mark.parametrize(
    ("sentence", "hint"),
    [
        (refused(TenantStatus.SUSPENDED), '"starter.py tenants resume acme" does so.'),
        (unknown("nobody").sentence, '"starter.py tenants list" shows who there is.'),
        (OFF, 'Then "starter.py doctor" tries again.'),
        (
            "NoStoreFree: no prepared schema store in the region eu is free for acme. Prepare one, "
            "and try again.",
            '"starter.py stores add --region eu" prepares one.',
        ),
        (
            "NoStoreFree: no prepared database store in the region eu_2 is free for acme. "
            "Prepare one, and try again.",
            '"starter.py stores add --isolation database --region eu_2" prepares one.',
        ),
        (
            "NoStoreFree: no prepared schema store is free for acme. t_1 is empty but drained: let "
            "it take tenants, or prepare another.",
            '"starter.py stores undrain t_1" does so.',
        ),
        (
            f"ConnectionSecretMissing: {no_secret_store('t_1')}",
            "Set CONNECTIONS_URL to the folder with the connections, as file:///folder.",
        ),
        (
            f"StoreRefused: {NO_SECRETS}",
            "Set CONNECTIONS_URL to file:///folder, which is made with the first connection.",
        ),
    ],
)
@pytest.mark.parametrize("lead", ["", "was skipped: "])
def test_the_command_follows_what_the_library_says(lead: str, sentence: str, hint: str) -> None:
    said = lead + sentence
    assert with_hint(said) == f"{said} {hint}"
    assert with_hint(with_hint(said)) == with_hint(said)


@pytest.mark.parametrize(
    "sentence",
    [
        refused(TenantStatus.DELETED),
        refused(TenantStatus.ACTIVE, "echo.farewell"),
        "TenantSuspended: x; rm -rf is suspended since 2026-11-22.",
        "Failed: TenantSuspended: acme is suspended since 2026-11-22.",
        "acme is suspended since 2026-11-22.",
        'TenantSuspended: acme is suspended since 2026-11-22. "starter.py tenants resume acme" x.',
    ],
)
def test_nothing_follows_what_no_command_helps_with(sentence: str) -> None:
    assert with_hint(sentence) == sentence


@pytest.mark.parametrize(
    ("side", "variable"),
    [("tenant_engine", "TENANT_DATABASE_URL"), ("platform_engine", "PLATFORM_DATABASE_URL")],
)
def test_the_command_line_names_the_variable_that_is_missing(
    side: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        getattr(Database(), side)
    with use_program(PROGRAM):
        assert report(raised.value, json=False, debug=False) == 2
    assert capsys.readouterr().err.endswith(f" Set {variable}.\n")


@pytest.mark.parametrize(
    ("alert", "hint"),
    [
        (
            "dead_letter.7f3a",
            ' "starter.py dead-letters list --fingerprint 7f3a" shows them.',
        ),
        ("dead_letters.age", ' "starter.py dead-letters list" shows them.'),
        ("outbox.age", ' "starter.py outbox list" shows what waits.'),
        ("dead_letters.depth", ""),
    ],
)
def test_the_command_follows_an_alerts_summary(alert: str, hint: str) -> None:
    assert summary_with_hint(alert, "so it is.") == f"so it is.{hint}"


@pytest.mark.parametrize(
    "fields",
    [
        {"error_type": "TenantUnknown", "error": "there is no tenant x."},
        {"error": "TenantUnknown: there is no tenant x."},
    ],
)
def test_the_command_follows_in_a_log_line(fields: dict[str, str]) -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(handler(format="json", stream=stream))
    logger.error("event.failed", extra=fields)
    hint = '"starter.py tenants list" shows who there is.'
    assert json.loads(stream.getvalue())["error"] == f"{fields['error']} {hint}"


def test_the_command_follows_an_alert_in_a_log_line() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(handler(format="json", stream=stream))
    fields = {"alert": "dead_letter.7f3a", "summary": "3 of mail.send failed for good."}
    logger.critical("alert.raised", extra=fields)
    line = json.loads(stream.getvalue())
    shows = '"starter.py dead-letters list --fingerprint 7f3a" shows them.'
    assert (line["level"], line["summary"]) == ("critical", f"{fields['summary']} {shows}")


async def test_the_command_follows_that_a_key_is_not_there(
    database: Database, tenants: Tenants
) -> None:
    await tenants.add("acme", "Acme", plan="standard")
    with pytest.raises(ApiKeyUnknown) as unknown:
        await ApiKeys(database).revoke("acme", uuid.uuid4())
    assert with_hint(unknown.value.sentence).endswith(
        ' "starter.py api-keys list --tenant acme" shows all.'
    )


async def test_the_command_follows_when_fairness_was_found_off(database: Database) -> None:
    found = await keep_fairness(database, "one", Fairness(share=0.9))
    sentence = with_hint(found.off_sentence)
    assert '"starter.py doctor" tries again' in sentence


@pytest.mark.parametrize("is_known", [True, False])
async def test_the_command_follows_that_an_input_is_forgotten(
    app: Client, database: Database, tenants: Tenants, is_known: bool
) -> None:
    await tenants.add("acme", "Acme", plan="enterprise")
    letter = await written(database, None)
    if not is_known:
        await rows(database, "update tenancy.dead_letters set run_id = 'no-uuid' returning 1")
        letter = await the_letter(database)
    with (
        use_database(database),
        use_directory(ControlPlaneDirectory(database)),
        pytest.raises(InputForgotten) as raised,
    ):
        await replay(app, letter, by="ada")
    key = letter.workflow_id.split("/", 2)[2]
    command = f"starter.py run {letter.job} --tenant {letter.tenant_id} --key {key} --input JSON"
    assert with_hint(raised.value.sentence).endswith(f' "{command}" does so.')


def test_a_key_in_a_command_is_quoted_for_a_shell() -> None:
    sentence = (
        "InputForgotten: the input of ua/billing.cycle/a; rm -rf / was not stored, and so on."
    )
    assert with_hint(sentence).endswith(" --key 'a; rm -rf /' --input JSON\" does so.")
