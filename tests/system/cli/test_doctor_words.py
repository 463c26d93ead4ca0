"""What the doctor says of rights, logins and relays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from processes.cli.program import PROGRAM
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli._database_checks import _logins, _open_rights
from temporal_tenancy.cli._probe_checks import _Probing
from temporal_tenancy.cli._verdicts import Verdict
from temporal_tenancy.cli.program import DEFAULT_RELAY, Application, Login
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.lint.catalogue import Finding

AIRPORTS = Finding("shared-table", "shop.airports", "everybody may read it.", open=True)
OTHER = Finding("shared-table", "shop.orders", "everybody may read it too.", open=True)
REASON = {"shop.airports": "public reference data"}


@pytest.mark.parametrize(
    ("findings", "shared", "verdict", "words", "missing"),
    [
        ([], {}, "ok", ["no role has a right that it does not need."], "shared"),
        ([AIRPORTS], REASON, "ok", ["shop.airports is shared: public reference data."], "may read"),
        (
            [AIRPORTS, OTHER],
            REASON,
            "warning",
            [
                "shared-table: everybody may read it too.",
                "shop.airports is shared: public reference data.",
                "Application(shared_tables=...)",
            ],
            "everybody may read it.",
        ),
        ([AIRPORTS], {}, "warning", ["everybody may read it.", "shared_tables="], "is shared:"),
        ([], REASON, "warning", ["shop.airports is named in shared_tables=, and is no"], "shared:"),
    ],
)
def test_a_table_that_is_meant_for_all_is_acknowledged_and_no_warning(
    findings: list[Finding], shared: Mapping[str, str], verdict: str, words: list[str], missing: str
) -> None:
    with use_program(PROGRAM):
        check = _open_rights(findings, holds=True, shared=shared)
    assert (check.verdict, [word for word in words if word not in check.message]) == (verdict, [])
    assert missing not in check.message


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_a_shared_table_needs_a_reason(reason: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.airports has no reason"):
        application(shared_tables={"shop.airports": reason})


@pytest.mark.parametrize(
    ("roles", "begins"),
    [
        (["app"], "app can log in"),
        (["app", "owner"], "the roles app and owner can log in"),
        (["app", "owner", "postgres"], "the roles app, owner and postgres can log in"),
    ],
)
def test_logins_without_a_password_are_one_sentence(roles: list[str], begins: str) -> None:
    check = _logins([Finding("passwordless-login", each, f"{each} can log in.") for each in roles])
    assert check.verdict is Verdict.FAILED
    assert check.message.startswith(begins)
    assert check.message.count("can log in") == 1


@pytest.mark.parametrize(
    ("command", "ends"),
    [
        ("worker.py --relay", 'Start one: "worker.py --relay".'),
        (DEFAULT_RELAY, 'Start one: "starter.py relay".'),
        (None, "so messages wait. Start one."),
    ],
)
def test_a_missing_relay_is_told_with_the_command_that_starts_one(
    command: str | None, ends: str
) -> None:
    made = application(relay=Login("RELAY_URL", "postgresql://x@y/z"), start_relay=command)
    probing = _Probing.__new__(_Probing)
    probing._application = made
    with use_program(PROGRAM):
        assert probing._no_relay().message.endswith(ends)


def application(**more: Any) -> Application:
    nothing = cast(Any, None)
    fields = {"relay": Login("RELAY"), "owner": Login("OWNER"), **more}
    return Application(
        connect=nothing, database=nothing, tenant=Login("T"), platform=Login("P"), **fields
    )
