"""The parts of starter.py that work without a server."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import typer
from google.protobuf.message import Message
from rich.console import Console, RenderableType
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure, NotFoundFailure
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from processes.cli.environment import masked, show
from processes.cli.program import PROGRAM
from processes.connect import reaching
from saas.database.contacts import Import
from temporal_tenancy.cli import (
    Application,
    Login,
    NotReachable,
    Program,
    answers,
    command_line,
    doctor,
    run,
    use_program,
)
from temporal_tenancy.cli import (
    _arguments as arguments,
)
from temporal_tenancy.cli import reaching as library_reaching
from temporal_tenancy.cli._failures import report
from temporal_tenancy.cli._server_access import Temporal
from temporal_tenancy.cli._verdicts import Check, Verdict
from temporal_tenancy.cli.answers import Answer, Problem
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch, TenantMissing
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, ExcessRights
from tests.fixtures.worker_process import ROOT

CANARY = "canary-3f1c"


def not_found(message: str, failure: Message) -> RPCError:
    """Returns the server's error for a missing object."""
    status = GrpcStatus(code=RPCStatusCode.NOT_FOUND, message=message)
    status.details.add().Pack(failure)
    return RPCError(message, RPCStatusCode.NOT_FOUND, status.SerializeToString())


NO_NAMESPACE = not_found("Namespace x is not found.", NamespaceNotFoundFailure(namespace="x"))
NO_RUN = not_found("workflow not found for ID: namespace/note/1", NotFoundFailure())


def test_generated_keys_are_uuids_of_version_7_that_sort_by_time() -> None:
    keys = [arguments.uuid7() for _ in range(3)]
    made = [uuid.UUID(key) for key in keys]
    assert {(key.version, key.variant) for key in made} == {(7, uuid.RFC_4122)}
    milliseconds = [key.int >> 80 for key in made]
    assert milliseconds == sorted(milliseconds)
    assert abs(milliseconds[0] / 1000 - datetime.now(UTC).timestamp()) < 60


def test_the_input_may_name_the_tenant_that_the_option_names() -> None:
    assert arguments.owner("ua", {"tenant_id": "ua"}, what="the input") == "ua"
    assert arguments.owner(None, {"tenant_id": "ua"}, what="the input") == "ua"
    with pytest.raises(TenantMismatch):
        arguments.owner("dl", {"tenant_id": "ua"}, what="the input")
    with pytest.raises(TenantMissing):
        arguments.owner(None, {}, what="the input")


@pytest.mark.parametrize("text", [f"{{{CANARY}", f'"{CANARY}"', "", "null"])
def test_input_that_is_no_object_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        arguments.input_fields(text, what="the input")
    assert CANARY not in refused.value.message


def test_a_filter_is_a_list_of_statuses() -> None:
    assert arguments.where(None) is None
    assert arguments.where("status=active,trial") == [TenantStatus.ACTIVE, TenantStatus.TRIAL]
    with pytest.raises(typer.BadParameter):
        arguments.where("plan=free")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://r:secret@db:5/x", "postgresql://r:***@db:5/x"),
        ("postgresql://db/x?password=secret&port=5", "postgresql://db/x?port=5"),
        ("no url with a secret", "***"),
    ],
)
def test_passwords_of_urls_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


async def test_every_setting_has_its_line_and_what_is_empty_is_a_dash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    monkeypatch.setenv("TENANT_LOCK_TIMEOUT", "2.5")
    monkeypatch.setenv("RELAY_BACKOFF", "PT20M")
    answer = await show()
    console = Console(width=200)
    with console.capture() as printed:
        console.print(answer.text)
    lines = {line.split()[0]: line.split()[1:] for line in printed.get().splitlines()}
    assert lines.keys() == answer.document.keys()
    assert lines["TRUSTED_PROXIES"] == ["-"]
    assert lines["TENANT_LOCK_TIMEOUT"] == ["2.5", "s"]
    assert lines["RELAY_BACKOFF"] == ["1200", "s"]


def test_a_run_is_linked_with_its_id_in_one_piece() -> None:
    class Connected:
        namespace = "saas"

    there = Temporal(cast(Client, Connected()), "http://ui/")
    assert there.link("ua/billing.cycle/2013-04", "r") == (
        "http://ui/namespaces/saas/workflows/ua%2Fbilling.cycle%2F2013-04/r"
    )
    assert Temporal(cast(Client, Connected()), None).link("x", "r") is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatabaseUnreachable("the database db does not answer."), '"make dev" starts one'),
        (DatabaseUnreachable("db: password authentication failed."), '"starter.py migrate"'),
        (RPCError("gone", RPCStatusCode.UNAVAILABLE, b""), "the Temporal server"),
        (RPCError("no", RPCStatusCode.PERMISSION_DENIED, b""), "the Temporal server"),
        (RPCError("transport error", RPCStatusCode.UNKNOWN, b""), "the Temporal server"),
        (RPCError("operation was canceled", RPCStatusCode.CANCELLED, b""), "the Temporal server"),
        (NO_NAMESPACE, "no namespace"),
    ],
)
def test_what_is_away_is_named_with_how_to_start_it(error: Exception, said: str) -> None:
    with pytest.raises(NotReachable) as raised, reaching():
        raise error
    assert said in raised.value.message


def test_a_run_that_is_not_there_is_no_namespace_that_is_not_whatever_its_tenants_name() -> None:
    with pytest.raises(RPCError), reaching():
        raise NO_RUN


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (InvalidPayload("it does not fit."), 2, "InvalidPayload"),
        (NotReachable("it is away."), 3, "NotReachable"),
        (ExcessRights("it may do more."), 1, "ExcessRights"),
        (RPCError("odd", RPCStatusCode.INTERNAL, b""), 1, "TemporalError"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code_and_type(
    error: Exception, code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with use_program(PROGRAM):
        assert report(error, json=True, debug=False) == code
    shown = capsys.readouterr()
    problem: dict[str, Any] = json.loads(shown.out)["error"]
    assert problem["type"] == kind
    assert shown.err == f"{kind}: {problem['message']}\n"


def test_a_bug_is_one_sentence_and_a_traceback_only_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        raise ZeroDivisionError("division by zero\nand more")
    with use_program(PROGRAM):
        assert report(raised.value, json=False, debug=False) == 1
        brief = capsys.readouterr().err
        report(raised.value, json=False, debug=True)
    long = capsys.readouterr().err
    place = r"\(tests/system/cli/test_cli\.py, line \d+, in test_a_bug_is_one_sentence_and\w+\)"
    assert re.match(rf"ZeroDivisionError: division by zero {place}\. This is a bug: ", brief)
    assert brief.count("\n") == 1
    assert "Traceback (most recent call last)" in long


FORGED = "x\n13 dead letters: 13 succeeded.\u2028\x1b[2J"
SPELLED_OUT = r"x\n13 dead letters: 13 succeeded.\u2028\x1b[2J"


@pytest.mark.parametrize(
    "shown",
    [
        answers.table(("tenant", "why"), [("ua", FORGED)]),
        answers.facts([("why", FORGED)]),
        answers.lines(FORGED),
        answers.address("http://ui.example", FORGED),
    ],
    ids=["table", "facts", "lines", "address"],
)
def test_a_tenants_text_begins_no_line_of_an_answer(
    shown: RenderableType, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command() -> Answer:
        return Answer({}, shown, Problem("Broken", FORGED))

    with pytest.raises(typer.Exit), use_program(PROGRAM):
        answers.perform(command(), json=False)
    said = capsys.readouterr()
    assert SPELLED_OUT in said.out
    assert not any(line.startswith("13") for line in said.out.splitlines())
    assert said.err == f"Broken: {SPELLED_OUT}\n"


@pytest.mark.parametrize(
    ("arguments", "output", "code"),
    [
        (("tenants", "show", "UA!", "--json"), "gone", 2),
        (("settings", "--json"), "full", 1),
        (("settings",), "full", 1),
        (("settings",), "closed", 0),
    ],
)
def test_an_answer_that_cannot_be_written_is_no_bug(
    arguments: tuple[str, ...], output: str, code: int
) -> None:
    shell = {
        "gone": 'exec 3> >(true); wait $!; exec "$@" >&3',
        "full": 'exec "$@" >/dev/full',
        "closed": 'exec "$@" >&-',
    }[output]
    command = ("bash", "-c", shell, "bash", sys.executable, str(ROOT / "starter.py"), *arguments)
    environ = {**os.environ, "PLATFORM_DATABASE_URL": "postgresql://p@127.0.0.1:1/x"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def another(url: str) -> Program:
    """The command line of an application with the fewest settings."""

    async def connect(database: Database | None) -> Client:
        with library_reaching(connecting=True):
            return await Client.connect("127.0.0.1:1")

    nowhere = Login("their setting")
    application = Application(
        connect=connect,
        database=lambda: Database(platform_url=url),
        tenant=nowhere,
        platform=Login("their platform's URL", url),
        relay=nowhere,
        owner=nowhere,
    )
    return Program(load=lambda: application)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("nothing", 2, "UsageError: No such command 'nothing'. \"tenancy --help\" shows"),
        ("tenants list", 3, "NotReachable: their platform's URL: the database 127.0.0.1:1/x "),
        ("explain a/b.c/d", 3, "NotReachable: the Temporal server does not answer: "),
        ("migrate", 3, "SettingMissing: their setting is not set."),
        ("outbox list", 3, "SettingMissing: their setting is not set, and only the relay sees"),
        ("schedules pause fan_out.tick", 2, "ScheduleUnknown: fan_out.tick has no schedule. "),
    ],
)
def test_another_application_has_the_commands_under_its_own_name(
    arguments: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = another("postgresql://tenancy_platform@127.0.0.1:1/x")
    assert run(command_line(program), program, arguments.split()) == code
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert "starter.py" not in shown


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("tenats list", "'tenants'"),
        ("tenants lst", "'list'"),
        ("run billing.cycle --tennant ua", "--tenant?"),
        ("dead-letters replay --fingerprnt x", "--fingerprint?"),
        ("run biling.cycle --tenant ua", '"billing.cycle"?'),
        ("fan-out biling.cycle", '"billing.cycle"?'),
        ("enqueue biling.cycle --tenant ua", '"billing.cycle"?'),
        ("ticks list biling.cycle", '"billing.cycle"?'),
        ("ticks missed biling.cycle", '"billing.cycle"?'),
        ("schedules pause biling.cycle", '"billing.cycle"?'),
    ],
)
def test_a_typo_is_one_sentence_with_the_nearest_name(
    line: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = another("postgresql://tenancy_platform@127.0.0.1:1/x")
    assert run(command_line(program), program, line.split()) == 2
    said = capsys.readouterr().err
    assert f"Did you mean {meant}" in said
    assert said.count("\n") == 1


def test_help_names_the_defaults_that_are_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A bracket in a help text would be markup, and vanish."""
    program = another("postgresql://tenancy_platform@127.0.0.1:1/x")
    for line, default in (("run", "the period, or a UUIDv7"), ("dead-letters replay", "this user")):
        assert run(command_line(program), program, [*line.split(), "--help"]) == 0
        assert default in re.sub(r"\s*│\n│\s*", " ", capsys.readouterr().out)


def test_a_variable_that_looks_like_a_misspelled_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TENANT_DATABASE_URL", raising=False)
    monkeypatch.setenv("TENANT_DATABSE_URL", CANARY)
    program = dataclasses.replace(PROGRAM)
    assert run(command_line(program), program, ["tenants", "list"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "ConfigurationError: the environment has TENANT_DATABSE_URL, which is not a setting. Did "
        'you mean "TENANT_DATABASE_URL"?\n'
    )


def test_what_a_check_lists_stands_below_it_and_a_warning_is_no_well() -> None:
    checks = [
        Check("temporal", Verdict.OK, "it answers."),
        Check("open rights", Verdict.WARNING, "it holds, but:\none: x.\ntwo: y.\nDo this."),
    ]
    console = Console(width=40, highlight=False)
    with console.capture() as printed:
        console.print(doctor._Shown(checks))
    assert [line.rstrip() for line in printed.get().splitlines()] == [
        "ok       temporal     it answers.",
        "warning  open rights  it holds, but:",
        "  one: x.",
        "  two: y.",
        "  Do this.",
    ]
    assert doctor._ending(0) == "All is well."
    assert doctor._ending(1) == "Nothing failed. 1 warning is worth a look."


def test_another_applications_doctor_finds_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = another("postgresql://tenancy_platform@127.0.0.1:1/x")
    assert run(command_line(program), program, ["doctor", "--json"]) == 1
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["temporal"]["message"].startswith("the Temporal server does not answer")
    assert checks["role tenancy_tenant"]["message"] == "their setting is not set."
    assert checks["migrations"]["verdict"] == "skipped"


def test_another_applications_help_names_none_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    program = another("postgresql://tenancy_platform@127.0.0.1:1/x")
    assert run(command_line(program), program, ["schedules", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "tenancy schedules" in shown
    assert "workflows/" not in shown


@pytest.mark.parametrize(
    "reading", [[], "x", 5, None, {"because": [1], "candidates": {"a": 1}}, {"candidates": 7}]
)
def test_whatever_a_tenants_role_has_written_of_an_imports_encoding_it_is_shown(
    reading: Any,
) -> None:
    imported = Import(reading=reading)
    assert (imported.encoding_by, imported.candidates) == (None, [])
