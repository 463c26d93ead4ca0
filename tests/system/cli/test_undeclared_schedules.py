"""The doctor says what to do about schedules that are not as they are declared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from temporal_tenancy.cli import _temporal_checks
from temporal_tenancy.cli._verdicts import Verdict


def state(job: str, state: str) -> dict[str, Any]:
    return {"schedule_id": f"platform/{job}", "job": job, "state": state, "paused": False}


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["applied"], []),
        (["missing", "applied"], ["platform/a.b0 is missing: ", "apply"]),
        (
            ["applied", "undeclared"],
            [
                "platform/a.b1: undeclared, so nothing of shop/schedules.py names it. Delete it in "
                'the Web UI, or with "temporal schedule delete".'
            ],
        ),
        (["changed", "undeclared"], ["platform/a.b0 is changed: ", "platform/a.b1: undeclared"]),
    ],
)
def test_the_advice_fits_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, states: list[str], said: list[str]
) -> None:
    program = SimpleNamespace(schedules="shop/schedules.py")
    monkeypatch.setattr(_temporal_checks, "current_program", lambda: program)
    monkeypatch.setattr(_temporal_checks, "quoted", lambda command: f'"tenancy {command}"')
    documents = [state(f"a.b{number}", each) for number, each in enumerate(states)]
    check = _temporal_checks._declared(documents)
    assert check.verdict is (Verdict.WARNING if said else Verdict.OK)
    for words in said:
        assert words in check.message
    assert ("schedules apply" in check.message) == ({"missing", "changed"} & set(states) != set())
