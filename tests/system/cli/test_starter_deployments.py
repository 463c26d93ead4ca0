"""starter.py deployments: what cannot be is refused in a sentence."""

from __future__ import annotations

import pytest

from tests.fixtures.starter import Batch, Command, Starter

pytestmark = pytest.mark.usefixtures("two_tenants")


async def test_without_versions_there_is_nothing_to_list(starter: Starter) -> None:
    listed = await starter("deployments", "list", "--json")
    assert listed.document["deployments"] == []


async def test_what_cannot_be_is_refused_in_a_sentence(batch: Batch) -> None:
    commands = [
        ("deployments", "ramp", "v2", "--tenants", "acme"),
        ("deployments", "ramp", "v2", "--share", "101%"),
        ("deployments", "ramp", "v2"),
        ("deployments", "promote", "v2"),
        ("deployments", "rollback", "v2"),
    ]
    for answer in await batch([Command(list(command)) for command in commands]):
        assert answer.code == 2, answer.err
        assert "bug" not in answer.err
